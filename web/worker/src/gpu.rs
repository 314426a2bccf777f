//! Whether a model runs on the graphics processor.

use engine::Gpu;
use protocol::{EngineChoice, EngineKind, EngineReport, Problem};

use crate::browser::{why_no_gpu, within};

/// How long a browser may take to give a graphics processor: after the loss of one, some never answer.
const PATIENCE_MS: f64 = 20_000.0;

/// What runs a model: a graphics processor or else this one, and why.
pub(crate) struct Chosen {
    pub(crate) gpu: Option<Gpu>,
    pub(crate) report: EngineReport,
}

impl Chosen {
    /// Does as `choice` says.
    pub(crate) async fn by(choice: EngineChoice) -> Result<Self, Problem> {
        if choice == EngineChoice::Processor {
            return Ok(Self::processor("you chose it"));
        }
        match (request().await, choice) {
            (Ok(gpu), EngineChoice::WebGpu) => Ok(Self::gpu(gpu, "you chose it")),
            (Ok(gpu), _) if gpu.adapter().is_software => {
                Ok(Self::processor("the only WebGPU adapter of this browser is a program, and slower"))
            }
            (Ok(gpu), _) => Ok(Self::gpu(gpu, "it is the faster one")),
            (Err(message), EngineChoice::WebGpu) => Err(Problem::Device { message }),
            (Err(message), _) => Ok(Self::processor(message)),
        }
    }

    /// The engine that is always there.
    pub(crate) fn processor(why: impl Into<String>) -> Self {
        let detail = match cfg!(target_feature = "simd128") {
            true => "WebAssembly with 128-bit SIMD, one thread",
            false => "WebAssembly, one thread",
        };
        let report = EngineReport { kind: EngineKind::Processor, detail: detail.into(), why: why.into() };
        Self { gpu: None, report }
    }

    fn gpu(gpu: Gpu, why: &str) -> Self {
        let detail = gpu.adapter().to_string();
        Self { gpu: Some(gpu), report: EngineReport { kind: EngineKind::WebGpu, detail, why: why.into() } }
    }
}

async fn request() -> Result<Gpu, String> {
    let asked = async {
        match why_no_gpu().await {
            None => Gpu::request().await.map_err(|error| error.to_string()),
            Some(why) => Err(why),
        }
    };
    let late = || Err(format!("WebGPU gave no adapter within {:.0} s", PATIENCE_MS / 1000.0));
    within(PATIENCE_MS, asked).await.unwrap_or_else(late)
}
