//! Sums, gates and activations.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use tensor::Gelu;

use super::{output, slice, tensor_like, values};
use crate::kernels::pointwise as kernel;

/// `x + y`.
pub(crate) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x.apply_op2(y, Add)
}

/// `silu(gate) · up`.
pub(crate) fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.apply_op2(up, SwiGlu)
}

/// The Gaussian error linear unit of `kind`.
pub(crate) fn gelu(x: &Tensor, kind: Gelu) -> Result<Tensor> {
    x.apply_op1(GeluOp { kind })
}

/// `x − silu(gpas_gate) · stop_gradient(x)`.
pub(crate) fn gpas(x: &Tensor, gpas_gate: &Tensor) -> Result<Tensor> {
    x.apply_op2(gpas_gate, Gpas)
}

struct Add;

impl CustomOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        y: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        output(kernel::zip(slice(x, lx)?, slice(y, ly)?, |x, y| x + y), lx.shape())
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(grad.clone())))
    }
}

struct SwiGlu;

impl CustomOp2 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        lg: &Layout,
        up: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        output(kernel::swiglu(slice(gate, lg)?, slice(up, lu)?), lg.shape())
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [d_gate, d_up] = kernel::swiglu_backward(&values(gate)?, &values(up)?, &values(&grad)?);
        Ok((Some(tensor_like(d_gate, gate)?), Some(tensor_like(d_up, up)?)))
    }
}

struct GeluOp {
    kind: Gelu,
}

impl CustomOp1 for GeluOp {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        output(kernel::gelu(slice(x, lx)?, self.kind), lx.shape())
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let grad = grad.contiguous()?;
        Ok(Some(tensor_like(kernel::gelu_backward(&values(x)?, &values(&grad)?, self.kind), x)?))
    }
}

/// Source: GPAS, arXiv 2506.22049: scales activations, not their gradients.
struct Gpas;

impl Gpas {
    /// `silu(a)` and its derivative.
    fn silu(a: f32) -> (f32, f32) {
        let sigmoid = 1.0 / (1.0 + (-f64::from(a)).exp());
        let a = f64::from(a);
        ((a * sigmoid) as f32, (sigmoid * (1.0 + a * (1.0 - sigmoid))) as f32)
    }
}

impl CustomOp2 for Gpas {
    fn name(&self) -> &'static str {
        "gpas"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        a: &CpuStorage,
        la: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let scale = 1.0 - Self::silu(slice(a, la)?[0]).0;
        output(kernel::map(slice(x, lx)?, |x| x * scale), lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slope = Self::silu(values(a)?[0]).1;
        let da = || {
            let grad = grad.contiguous()?;
            let along = kernel::dot(&values(&grad)?, &values(x)?);
            tensor_like(vec![-slope * along], a)
        };
        Ok((Some(grad.clone()), a.track_op().then(da).transpose()?))
    }
}
