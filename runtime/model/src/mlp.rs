//! The dense SwiGLU feed-forward, also used for shared experts.

use tensor::{Backend, Result, Weights};

/// A linear map with its optional bias.
pub struct Linear<B: Backend> {
    /// `[out, in]`
    pub weight: B::Weight,
    /// `[out]`
    pub bias: Option<B::Weight>,
}

impl<B: Backend> Linear<B> {
    /// Loads `{name}.weight` and, if `bias` says so, `{name}.bias`.
    pub(crate) fn load(w: &dyn Weights<B>, name: &str, [out, input]: [usize; 2], bias: bool) -> Result<Self> {
        Ok(Self {
            weight: w.get(&format!("{name}.weight"), &[out, input])?,
            bias: bias.then(|| w.get(&format!("{name}.bias"), &[out])).transpose()?,
        })
    }

    /// The pair that a backend takes.
    pub(crate) fn parts(&self) -> (&B::Weight, Option<&B::Weight>) {
        (&self.weight, self.bias.as_ref())
    }

    /// `x · weightᵀ + bias`.
    pub(crate) fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        b.linear(x, &self.weight, self.bias.as_ref())
    }
}

/// `down( silu(gate · x) ⊙ (up · x) )`.
pub struct Mlp<B: Backend> {
    /// `[intermediate_size, hidden_size]`
    pub gate_proj: Linear<B>,
    /// `[intermediate_size, hidden_size]`
    pub up_proj: Linear<B>,
    /// `[hidden_size, intermediate_size]`
    pub down_proj: Linear<B>,
}

impl<B: Backend> Mlp<B> {
    /// Loads the three projections below `prefix`.
    pub(crate) fn load(
        w: &dyn Weights<B>,
        prefix: &str,
        hidden_size: usize,
        intermediate_size: usize,
        bias: bool,
    ) -> Result<Self> {
        let inner = [intermediate_size, hidden_size];
        Ok(Self {
            gate_proj: Linear::load(w, &format!("{prefix}.gate_proj"), inner, bias)?,
            up_proj: Linear::load(w, &format!("{prefix}.up_proj"), inner, bias)?,
            down_proj: Linear::load(
                w,
                &format!("{prefix}.down_proj"),
                [hidden_size, intermediate_size],
                bias,
            )?,
        })
    }

    /// `x` and the result are `[n, hidden_size]`.
    pub(crate) fn forward(&self, b: &B, x: &B::Tensor) -> Result<B::Tensor> {
        self.down_proj.forward(b, &b.gated(x, self.gate_proj.parts(), self.up_proj.parts())?)
    }
}
