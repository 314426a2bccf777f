//! Choosing and replacing rows.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, Layout, Result, Shape, Tensor};

use tensor::RawTensor;

use super::{output, slice, tensor_like, values};
use crate::kernels::{linear::decode, rows as kernel, simd};

/// Rows `rows` of `x`, all of which it has.
pub(crate) fn gather(x: &Tensor, rows: Vec<u32>) -> Result<Tensor> {
    x.apply_op1(Gather { rows })
}

/// `x` with row `rows[i]` replaced by row `i` of `src`.
pub(crate) fn scatter(x: &Tensor, rows: Vec<u32>, src: &Tensor) -> Result<Tensor> {
    x.apply_op2(src, Scatter { rows })
}

/// Rows `rows` of a stored table, all of which it has; no gradient.
pub(crate) fn decode_rows(table: &RawTensor, rows: &[u32]) -> Result<Tensor> {
    let cols = table.cols();
    let mut out = vec![0.0; rows.len() * cols];
    for (out, &row) in out.chunks_exact_mut(cols).zip(rows) {
        decode(table, row as usize..row as usize + 1, out);
    }
    Tensor::from_vec(out, (rows.len(), cols), &Device::Cpu)
}

/// Index of each row's largest value, the lowest on ties.
pub(crate) fn argmax(x: &Tensor) -> Result<Tensor> {
    let best = |row: &[f32]| {
        let max = simd::vectorize(|| simd::max(row));
        row.iter().position(|&v| v == max).unwrap_or(0) as u32
    };
    let ids: Vec<u32> = values(x)?.chunks_exact(x.dims()[1]).map(best).collect();
    let n = ids.len();
    Tensor::from_vec(ids, n, &Device::Cpu)
}

struct Gather {
    rows: Vec<u32>,
}

impl CustomOp1 for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, cols) = lx.shape().dims2()?;
        output(kernel::gather(slice(x, lx)?, cols, &self.rows), (self.rows.len(), cols))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (n, cols) = x.dims2()?;
        let grad = grad.contiguous()?;
        let mut dx = vec![0.0; n * cols];
        kernel::scatter_add(&mut dx, cols, &self.rows, &values(&grad)?);
        Ok(Some(tensor_like(dx, x)?))
    }
}

struct Scatter {
    rows: Vec<u32>,
}

impl CustomOp2 for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        src: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, cols) = lx.shape().dims2()?;
        let mut out = slice(x, lx)?.to_vec();
        for (&row, src) in self.rows.iter().zip(slice(src, ls)?.chunks_exact(cols)) {
            out[row as usize * cols..][..cols].copy_from_slice(src);
        }
        output(out, lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        src: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, cols) = x.dims2()?;
        let grad = grad.contiguous()?;
        let grad = values(&grad)?;
        let mut dx = grad.to_vec();
        for &row in &self.rows {
            dx[row as usize * cols..][..cols].fill(0.0);
        }
        let d_src = kernel::gather(&grad, cols, &self.rows);
        Ok((Some(tensor_like(dx, x)?), Some(tensor_like(d_src, src)?)))
    }
}
