//! The routed feed-forward: one or two banks of experts, and the shared experts.

use tensor::{Backend, Experts, Result, Weights};

use crate::config::{BankConfig, MoeConfig, TextConfig};
use crate::decoder::Step;
use crate::mlp::Mlp;

/// A router and the experts it chooses from.
pub struct Bank<B: Backend> {
    /// `[n_experts, hidden_size]`, used in `f32`.
    pub router: B::Weight,
    /// `[n_experts]`: takes part in choosing, not in weighing.
    pub correction_bias: Option<B::Weight>,
    /// The experts, without biases.
    pub experts: Experts<B>,
    top_k: usize,
    norm_min: f32,
    tap: String,
}

/// The routed feed-forward of one layer.
///
/// Text rows and vision rows have their own routers and experts; shared experts see all rows.
pub struct Moe<B: Backend> {
    /// The experts of text tokens.
    pub text: Bank<B>,
    /// The experts of picture and video tokens, in vision-language models.
    pub vision: Option<Bank<B>>,
    /// One SwiGLU that every row passes.
    pub shared: Option<Mlp<B>>,
}

/// Which of a checkpoint's banks to load.
#[derive(Clone, Copy)]
struct Place<'a> {
    prefix: &'a str,
    router: &'a str,
    first_expert: usize,
    bias_row: usize,
    tap: &'a str,
}

impl<B: Backend> Bank<B> {
    fn load(
        w: &dyn Weights<B>,
        place: Place<'_>,
        config: &TextConfig,
        moe: &MoeConfig,
        bank: &BankConfig,
    ) -> Result<Self> {
        let Place { prefix, router, first_expert, bias_row, tap } = place;
        let (hidden, inner, n) = (config.hidden_size, bank.intermediate_size, bank.n_experts);
        let expert = |projection: &str, shape: [usize; 2]| -> Result<Vec<B::Weight>> {
            let name = |e: usize| format!("{prefix}.experts.{e}.{projection}.weight");
            (first_expert..first_expert + n).map(|e| w.get(&name(e), &shape)).collect()
        };
        let n_banks = 1 + usize::from(moe.vision.is_some());
        let bias_name = format!("{prefix}.moe_statics.e_score_correction_bias");
        let bias = || w.get_rows(&bias_name, &[n_banks, n], bias_row..bias_row + 1);
        Ok(Self {
            router: w.get(&format!("{prefix}.{router}"), &[n, hidden])?,
            correction_bias: moe.use_correction_bias.then(bias).transpose()?,
            experts: Experts {
                gate_proj: expert("gate_proj", [inner, hidden])?,
                up_proj: expert("up_proj", [inner, hidden])?,
                down_proj: expert("down_proj", [hidden, inner])?,
            },
            top_k: moe.top_k,
            norm_min: moe.norm_min,
            tap: tap.to_owned(),
        })
    }

    fn forward(&self, step: &Step<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let b = step.backend;
        let logits = b.linear(x, &self.router, None)?;
        let routing = b.route(&logits, self.correction_bias.as_ref(), self.top_k, self.norm_min)?;
        if let Some(taps) = step.taps {
            taps.routing(format!("{}.selected", self.tap), &routing);
        }
        b.expert_mlp(x, &routing, &self.experts)
    }
}

impl<B: Backend> Moe<B> {
    pub(crate) fn load(
        w: &dyn Weights<B>,
        layer: usize,
        config: &TextConfig,
        moe: &MoeConfig,
    ) -> Result<Self> {
        let prefix = &format!("model.layers.{layer}.mlp");
        let tap = |bank: &str| match moe.vision {
            Some(_) => format!("router.layers.{layer}.{bank}_moe"),
            None => format!("router.layers.{layer}"),
        };
        let text = Place { prefix, router: "gate.weight", first_expert: 0, bias_row: 0, tap: &tap("text") };
        let vision = Place {
            router: "gate.weight_1",
            first_expert: moe.text.n_experts,
            bias_row: 1,
            tap: &tap("vision"),
            ..text
        };
        let shared = || {
            Mlp::load(
                w,
                &format!("{prefix}.shared_experts"),
                config.hidden_size,
                moe.shared_intermediate_size,
                config.use_bias,
            )
        };
        Ok(Self {
            text: Bank::load(w, text, config, moe, &moe.text)?,
            vision: moe.vision.as_ref().map(|bank| Bank::load(w, vision, config, moe, bank)).transpose()?,
            shared: (moe.n_shared_experts > 0).then(shared).transpose()?,
        })
    }

    /// `x` and the result are `[n, hidden_size]`.
    pub(crate) fn forward(&self, step: &Step<'_, B>, x: &B::Tensor) -> Result<B::Tensor> {
        let b = step.backend;
        let routed = match (&self.vision, &step.modalities) {
            (Some(vision), Some(rows)) => {
                let image = vision.forward(step, &b.gather(x, &rows.vision)?)?;
                let routed = b.scatter(x, &rows.vision, &image)?;
                match &rows.text {
                    Some(text_rows) => {
                        let text = self.text.forward(step, &b.gather(x, text_rows)?)?;
                        b.scatter(&routed, text_rows, &text)?
                    }
                    None => routed,
                }
            }
            _ => self.text.forward(step, x)?,
        };
        match &self.shared {
            Some(shared) => b.add(&routed, &shared.forward(b, x)?),
            None => Ok(routed),
        }
    }
}
