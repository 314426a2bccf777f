//! Linear maps through dense and stored weights.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use tensor::RawTensor;

use super::{output, slice, tensor_like, values};
use crate::kernels::gemm::Threads;
use crate::kernels::{linear as kernel, rows};

/// `x · wᵀ + bias`; `w` is `[out, in]`.
pub(crate) fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        None => x.apply_op2(w, Linear),
        Some(bias) => x.apply_op3(w, bias, Linear),
    }
}

/// `x · wᵀ + bias` through a weight in its stored form, which has no gradient.
pub(crate) fn linear_stored(x: &Tensor, w: &Arc<RawTensor>, bias: Option<&Tensor>) -> Result<Tensor> {
    let bias = bias.map(|bias| values(bias).map(|bias| bias.to_vec())).transpose()?;
    x.apply_op1(StoredLinear { w: Arc::clone(w), bias })
}

struct Linear;

impl Linear {
    /// Gradients of the input and the weight, each if somebody wants it.
    fn gradients(x: &Tensor, w: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, cols) = w.dims2()?;
        let grad = values(grad)?;
        let dx = || tensor_like(kernel::input_gradient(&grad, &values(w)?, rows, Threads::All), x);
        let dw = || tensor_like(kernel::weight_gradient(&grad, &values(x)?, rows, cols, Threads::All), w);
        Ok((x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, (rows, cols)) = (lx.dims()[0], lw.shape().dims2()?);
        output(kernel::dense(slice(x, lx)?, slice(w, lw)?, None, cols, Threads::All), (n, rows))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Self::gradients(x, w, &grad.contiguous()?)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let (n, (rows, cols)) = (lx.dims()[0], lw.shape().dims2()?);
        let bias = Some(slice(bias, lb)?);
        output(kernel::dense(slice(x, lx)?, slice(w, lw)?, bias, cols, Threads::All), (n, rows))
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
        let (dx, dw) = Self::gradients(x, w, &grad)?;
        let db = || tensor_like(rows::column_sums(&values(&grad)?, w.dims()[0]), bias);
        Ok((dx, dw, bias.track_op().then(db).transpose()?))
    }
}

struct StoredLinear {
    w: Arc<RawTensor>,
    bias: Option<Vec<f32>>,
}

impl CustomOp1 for StoredLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = kernel::stored(slice(x, lx)?, &self.w, self.bias.as_deref(), Threads::All);
        output(y, (lx.dims()[0], self.w.rows()))
    }
}
