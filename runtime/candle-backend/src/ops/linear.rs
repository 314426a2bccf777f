//! Linear maps through dense and stored weights.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};

use super::{output, slice, tensor_like, values};
use crate::Stored;
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
pub(crate) fn linear_stored(
    x: &Tensor,
    w: &Arc<Stored>,
    bias: Option<&Tensor>,
    integers: Option<::kernels::Path>,
) -> Result<Tensor> {
    let bias = bias.map(|bias| values(bias).map(|bias| bias.to_vec())).transpose()?;
    x.apply_op1(StoredLinear { w: Arc::clone(w), bias, integers })
}

/// [`linear_stored`] in integers with several block-quantised weights, for which `x` is rounded once.
pub(crate) fn linears_in_integers<const N: usize>(
    x: &Tensor,
    ws: [(&Stored, Option<&Tensor>); N],
    path: ::kernels::Path,
) -> Result<[Tensor; N]> {
    let biases: Vec<_> = ws.iter().map(|(_, bias)| bias.map(values).transpose()).collect::<Result<_>>()?;
    let parts: [(&Stored, Option<&[f32]>); N] = std::array::from_fn(|i| (ws[i].0, biases[i].as_deref()));
    let (n, ys) = (x.dims()[0], kernel::in_integers(&values(x)?, parts, path, Threads::All));
    let tensor = |(y, (w, _)): (Vec<f32>, (&Stored, _))| Tensor::from_vec(y, (n, w.rows()), &Device::Cpu);
    let ys: Vec<Tensor> = ys.into_iter().zip(ws).map(tensor).collect::<Result<_>>()?;
    Ok(ys.try_into().expect("one output a weight"))
}

/// `silu(gate) · up` of the products with two weights of one shape, in integers as [`linears_in_integers`].
pub(crate) fn gated_in_integers(
    x: &Tensor,
    ws: [(&Stored, Option<&Tensor>); 2],
    path: ::kernels::Path,
) -> Result<Tensor> {
    let [gate_bias, up_bias] = ws.map(|(_, bias)| bias.map(values).transpose());
    let (gate_bias, up_bias) = (gate_bias?, up_bias?);
    let [gate, up] = [(ws[0].0, gate_bias.as_deref()), (ws[1].0, up_bias.as_deref())];
    let y = kernel::gated_in_integers(&values(x)?, gate, up, path, Threads::All);
    Tensor::from_vec(y, (x.dims()[0], ws[0].0.rows()), &Device::Cpu)
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
    w: Arc<Stored>,
    bias: Option<Vec<f32>>,
    integers: Option<::kernels::Path>,
}

impl CustomOp1 for StoredLinear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = kernel::stored(slice(x, lx)?, &self.w, self.bias.as_deref(), self.integers, Threads::All);
        output(y, (lx.dims()[0], self.w.rows()))
    }
}
