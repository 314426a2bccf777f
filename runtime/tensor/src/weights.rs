//! Where parameters come from, and the files that hold them.

mod gguf;
mod gguf_writer;
mod index;
mod safetensors;

pub use gguf::{Gguf, GgufArray, GgufValue};
pub use gguf_writer::{GgufEntry, GgufLayout, GgufTensor};
pub use index::{NamedArray, TensorIndex, nearest};
pub use safetensors::{Safetensors, write_safetensors};

use crate::{Backend, Result};

/// Where parameters come from: a mapped file, fetched ranges, or an initialiser that makes variables.
///
/// Names are canonical: the published `-PT` spelling of ERNIE 4.5 (`model.layers.0.self_attn.q_proj.weight`,
/// `model.layers.1.mlp.experts.3.up_proj.weight`, `vision_model.blocks.0.attn.qkv.weight`,
/// `model.resampler_model.spatial_linear.0.weight`), every linear weight `[out, in]` whatever the file does.
pub trait Weights<B: Backend> {
    /// The parameter `name`.
    ///
    /// # Errors
    /// If it is absent, has another shape, or cannot be read; the error names the tensor.
    fn get(&self, name: &str, shape: &[usize]) -> Result<B::Weight>;

    /// Rows `rows` of the parameter `name`, whose full shape is `shape`: one projection of a fused
    /// matrix, or one modality's row of a shared table. Rows of a vector are its elements.
    ///
    /// # Errors
    /// As for [`get`](Self::get).
    fn get_rows(&self, name: &str, shape: &[usize], rows: std::ops::Range<usize>) -> Result<B::Weight>;

    /// Whether the parameter is there.
    fn has(&self, name: &str) -> bool;
}
