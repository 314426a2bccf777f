//! Model files → a model on a device: the only `match` over backends.

#[cfg(feature = "candle")]
mod cpu;

use tensor::{Backend, KvType, Reference};
#[cfg(feature = "candle")]
use tensor::{Profile, Profiled};

use crate::loaded::IntoSequences;
use crate::quantize::{Importance, Preset};
use crate::{Error, LanguageModel, Loaded, ModelFiles, ModelInput, Result, Sequences, Traceable};

/// Where a model runs. Devices compute in `f32`, on weights decoded exactly unless they say otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor. Weights are read where their file is mapped; block-quantised ones multiply activations
    /// rounded to signed bytes.
    #[cfg(feature = "candle")]
    #[default]
    Cpu,
    /// The processor, exactly: what a recorded case is compared with.
    #[cfg(feature = "candle")]
    CpuExact,
    /// The NVIDIA GPU of this number. Weights are copied to it.
    #[cfg(feature = "cuda")]
    Cuda(usize),
    /// The GPU that is likely to be the fastest. Weights are copied to it as they are stored. A browser cannot wait
    /// for a GPU here: it awaits `Gpu::request` and loads on that, by [`load_on`].
    #[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
    Gpu,
    /// Plain loops on decoded copies of the weights: slow, and what the others are judged by.
    #[cfg_attr(not(feature = "candle"), default)]
    Reference,
}

/// How a model is loaded. A [`Device`] alone is the default of everything else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: Device,
    /// Bytes of memory that routed experts may take at a time; the others are read from their file when they
    /// are chosen. `None` leaves them where their file is mapped. For the processor only.
    pub expert_memory: Option<u64>,
    /// Bytes of block-quantised weights that may be laid out once more, so that products read them straight through;
    /// `None` is 1 GiB. Experts are not among them. For the processor only.
    pub packed_memory: Option<u64>,
    /// What keys and values are remembered as; `None` is [`LoadOptions::KV_TYPE`]. For [`Device::Cpu`] only.
    pub kv_type: Option<KvType>,
    /// The mixture of types that larger weights are turned into, in memory. For the processor only.
    pub quantize: Option<Preset>,
}

impl LoadOptions {
    /// What the processor remembers keys and values as, unless somebody says otherwise. WebAssembly has no instruction
    /// that turns one into the other, so there they stay as they were computed.
    pub const KV_TYPE: KvType = if cfg!(target_family = "wasm") { KvType::F32 } else { KvType::F16 };
}

impl From<Device> for LoadOptions {
    fn from(device: Device) -> Self {
        Self { device, ..Self::default() }
    }
}

/// Loads a model, with an empty cache.
///
/// # Errors
/// If a file is damaged or missing, a parameter is missing or has another shape, the device is not there, or
/// an option cannot be had on it.
pub fn load(files: &ModelFiles, options: impl Into<LoadOptions>) -> Result<Box<dyn LanguageModel>> {
    Ok(load_any(files, options.into())?)
}

/// Loads a model for several sequences at once.
///
/// # Errors
/// As for [`load`].
pub fn load_sequences(files: &ModelFiles, options: impl Into<LoadOptions>) -> Result<Box<dyn Sequences>> {
    Ok(load_any(files, options.into())?.into_sequences())
}

/// [`load`] on the processor, with every operation measured by `clock`, in milliseconds.
///
/// # Errors
/// As for [`load`].
#[cfg(feature = "candle")]
pub fn load_profiled(
    files: &ModelFiles,
    clock: impl Fn() -> f64 + 'static,
) -> Result<(Box<dyn LanguageModel>, Profile)> {
    let (backend, profile) = Profiled::new(cpu::backend(&LoadOptions::default())?, clock);
    let model = load_on(files, backend)?;
    // What loading took is told elsewhere.
    let _ = profile.take();
    Ok((model, profile))
}

/// [`load`] for those who want to see inside.
///
/// # Errors
/// As for [`load`].
pub fn load_traceable(files: &ModelFiles, options: impl Into<LoadOptions>) -> Result<Box<dyn Traceable>> {
    Ok(load_any(files, options.into())?)
}

/// [`load`] on a backend that the caller made: a GPU that had to be awaited, or whose counters it wants to read.
///
/// # Errors
/// As for [`load`].
pub fn load_on<B: Backend + Clone>(files: &ModelFiles, backend: B) -> Result<Box<dyn LanguageModel>> {
    Ok(load_any_on(backend, files)?)
}

/// [`load_sequences`] on a backend that the caller made.
///
/// # Errors
/// As for [`load`].
pub fn load_sequences_on<B: Backend + Clone>(files: &ModelFiles, backend: B) -> Result<Box<dyn Sequences>> {
    Ok(load_any_on(backend, files)?.into_sequences())
}

/// [`load_traceable`] on a backend that the caller made.
///
/// # Errors
/// As for [`load`].
pub fn load_traceable_on<B: Backend + Clone>(files: &ModelFiles, backend: B) -> Result<Box<dyn Traceable>> {
    Ok(load_any_on(backend, files)?)
}

fn load_any(files: &ModelFiles, options: LoadOptions) -> Result<Box<dyn IntoSequences>> {
    match options.device {
        #[cfg(feature = "candle")]
        Device::Cpu => cpu::load(cpu::backend(&options)?, files, &options),
        #[cfg(feature = "candle")]
        Device::CpuExact if options.kv_type.is_some() => Err(Error::Options(
            "the exact processor remembers keys and values as they are computed".to_owned(),
        )),
        #[cfg(feature = "candle")]
        Device::CpuExact => cpu::load(candle_backend::Candle::cpu(), files, &options),
        _ if LoadOptions { device: options.device, ..LoadOptions::default() } != options => {
            let detail = "budgets of memory and quantising while loading are for the processor";
            Err(Error::Options(detail.to_owned()))
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => load_any_on(candle_backend::Candle::cuda(ordinal)?, files),
        #[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
        Device::Gpu => load_any_on(pollster::block_on(wgpu_backend::Wgpu::request())?, files),
        Device::Reference => load_any_on(Reference, files),
    }
}

/// Runs `prompts` through a model, and tells how much the columns of its matrices matter to them.
///
/// `progress` hears how many prompts are done.
///
/// # Errors
/// As for [`load`], or if a prompt is not for the model.
pub fn measure_importance(
    files: &ModelFiles,
    device: Device,
    prompts: &[ModelInput],
    progress: &mut dyn FnMut(usize),
) -> Result<Importance> {
    match device {
        #[cfg(feature = "candle")]
        Device::Cpu => {
            let backend = candle_backend::Candle::cpu_in_integers()?;
            Importance::measure(files, backend, prompts, progress)
        }
        #[cfg(feature = "candle")]
        Device::CpuExact => Importance::measure(files, candle_backend::Candle::cpu(), prompts, progress),
        #[cfg(feature = "cuda")]
        Device::Cuda(ordinal) => {
            Importance::measure(files, candle_backend::Candle::cuda(ordinal)?, prompts, progress)
        }
        #[cfg(all(feature = "wgpu", not(target_family = "wasm")))]
        Device::Gpu => {
            let backend = pollster::block_on(wgpu_backend::Wgpu::request())?;
            Importance::measure(files, backend, prompts, progress)
        }
        Device::Reference => Importance::measure(files, Reference, prompts, progress),
    }
}

fn load_any_on<B: Backend + Clone>(backend: B, files: &ModelFiles) -> Result<Box<dyn IntoSequences>> {
    let checkpoint = files.checkpoint()?;
    let weights = checkpoint.weights(&backend);
    Ok(Box::new(Loaded::load(backend.clone(), &weights, checkpoint.config.clone())?))
}
