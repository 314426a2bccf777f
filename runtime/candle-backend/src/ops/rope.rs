//! Rotary position embedding.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use tensor::RopePairs;

use super::{output, slice, tensor_like, values};
use crate::kernels::rope as kernel;

/// Rotates every head of `x` by its row of `cos_sin`, which has no gradient.
pub(crate) fn rope(x: &Tensor, cos_sin: &Tensor, pairs: RopePairs) -> Result<Tensor> {
    x.apply_op2(cos_sin, Rope { pairs })
}

struct Rope {
    pairs: RopePairs,
}

impl CustomOp2 for Rope {
    fn name(&self) -> &'static str {
        "rope"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        angles: &CpuStorage,
        la: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (cols, head_dim) = (lx.dims()[1], la.dims()[1]);
        output(kernel::rotate(slice(x, lx)?, cols, slice(angles, la)?, head_dim, self.pairs, 1.0), lx.shape())
    }

    fn bwd(
        &self,
        x: &Tensor,
        angles: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (grad, (cols, head_dim)) = (grad.contiguous()?, (x.dims()[1], angles.dims()[1]));
        let dx = kernel::rotate(&values(&grad)?, cols, &values(angles)?, head_dim, self.pairs, -1.0);
        Ok((Some(tensor_like(dx, x)?), None))
    }
}
