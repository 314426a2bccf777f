//! RMS norm and layer norm.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{output, slice, tensor_like, values};
use crate::kernels::norm as kernel;

/// `w · x / sqrt(mean(x²) + eps)` a row.
pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op2(w, RmsNorm { eps })
}

/// `w · (x − mean) / sqrt(var + eps) + bias` a row.
pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op3(w, bias, LayerNorm { eps })
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        output(kernel::rms(slice(x, lx)?, slice(w, lw)?, self.eps), lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [dx, dw] = kernel::rms_backward(&values(x)?, &values(w)?, &values(&grad)?, self.eps);
        Ok((Some(tensor_like(dx, x)?), Some(tensor_like(dw, w)?)))
    }
}

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        output(kernel::layer(slice(x, lx)?, slice(w, lw)?, slice(bias, lb)?, self.eps), lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let [dx, dw, db] = kernel::layer_backward(&values(x)?, &values(w)?, &values(&grad)?, self.eps);
        Ok((Some(tensor_like(dx, x)?), Some(tensor_like(dw, w)?), Some(tensor_like(db, bias)?)))
    }
}
