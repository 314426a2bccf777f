//! Products of `f32` activations with weights in the form in which they lie in a mapped file.
//!
//! A [`Matrix`] is a weight's bytes, [`Activations`] are rows rounded once to signed bytes, and [`matmul()`]
//! multiplies them for a range of weight rows. It starts no thread and takes no lock: the caller shares the
//! weight rows out, and each thread writes its own [`Columns`] of the result.
//!
//! Every [`Path`] gives the same bits, and a row's result depends neither on the rows beside it nor on how
//! the work is shared. This crate must never know a tensor library, a device or a model.
//!
//! ```
//! use kernels::{Activations, Columns, Matrix, Path, matmul};
//! use tensor::DType;
//!
//! let path = Path::chosen()?;
//! let bytes: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|w| w.to_le_bytes()).collect();
//! let w = Matrix::new(DType::F32, &bytes, 2, 2)?;
//! let x = Activations::plain(&[1.0, 10.0], 2)?;
//! let mut y = [0.0; 2];
//! matmul(path, &x, &w, 0..2, &mut Columns::new(&mut y, 2))?;
//! assert_eq!(y, [21.0, 43.0]);
//! # Ok::<(), kernels::Error>(())
//! ```

mod activations;
#[cfg(target_arch = "aarch64")]
mod arm;
mod columns;
mod error;
mod float;
mod lanes;
mod matmul;
mod matrix;
mod panel;
mod path;
pub mod peak;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")))]
mod portable;
#[cfg(any(target_arch = "aarch64", target_arch = "wasm32"))]
mod quads;
mod scalar;
mod unpack;
#[cfg(target_arch = "wasm32")]
mod wasm;
mod widen;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use activations::{Activations, Tile};
pub use columns::Columns;
pub use error::{Error, Result};
pub use matmul::matmul;
pub use matrix::Matrix;
pub use path::Path;
pub use widen::{widen, widen_f16};
