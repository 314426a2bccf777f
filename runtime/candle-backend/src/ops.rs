//! One candle operation for each operation of the backend, on the CPU, with its gradient.
//!
//! Inference and training run the same forward kernels; what a gradient needs is recomputed from the
//! inputs, because a custom operation's backward pass sees inputs, output and gradient only.

mod attention;
mod cross_entropy;
mod experts;
mod linear;
mod norm;
mod pointwise;
mod rope;
mod route;
mod rows;

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, Device, Layout, Result, Shape, Storage, StorageRef, Tensor, bail};

pub(crate) use attention::{attend, attend_cached, attend_sequences};
pub(crate) use cross_entropy::cross_entropy;
pub(crate) use experts::{expert_mlp, expert_mlp_with_gradient};
pub(crate) use linear::{gated_in_integers, linear, linear_stored, linears_in_integers};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use pointwise::{add, gelu, gpas, swiglu};
pub(crate) use rope::rope;
pub(crate) use route::route;
pub(crate) use rows::{argmax, decode_rows, gather, scatter};

/// The values of a contiguous `f32` tensor on the CPU, for as long as this lives.
pub(crate) struct Values<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("checked when it was made"),
        }
    }
}

/// The values of `x` where they lie.
pub(crate) fn values(x: &Tensor) -> Result<Values<'_>> {
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(_)), Some((start, end))) => Ok(Values { storage, range: start..end }),
        _ => bail!("needs contiguous f32 rows on the CPU, got {x:?}"),
    }
}

/// The values behind an argument of a custom operation.
fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&values[start..end]),
        _ => bail!("needs contiguous f32 rows, got {:?}", layout.shape()),
    }
}

/// The result of a custom operation.
fn output(values: Vec<f32>, shape: impl Into<Shape>) -> Result<(CpuStorage, Shape)> {
    Ok((CpuStorage::F32(values), shape.into()))
}

/// A tensor of the shape of `like`.
fn tensor_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}
