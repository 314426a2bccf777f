//! Ocelli's operations on candle tensors: CPU kernels of our own, CUDA by composition, and training.
//!
//! [`Candle`] implements [`tensor::Backend`]. Its tensors *are* candle tensors, so a loss computed
//! through a model differentiates with candle's own `backward`; [`optim::AdamW`] takes the step.
//! This crate knows no model and no file.
//!
//! ```
//! use candle_backend::Candle;
//! use tensor::{Backend, RawTensor};
//!
//! let b = Candle::cpu();
//! let x = b.tensor(&[1.0, 2.0], 2)?;
//! let w = b.weight(RawTensor::from_f32("w", &[1, 2], &[3.0, 4.0]))?;
//! let y = b.linear(&x, &w, None)?;
//! assert_eq!(y.to_vec2::<f32>().unwrap(), [[11.0]]);
//! # Ok::<(), tensor::Error>(())
//! ```

mod backend;
mod composed;
mod expert_store;
mod kernels;
mod kv_cache;
mod ops;
pub mod optim;
mod packing;
mod team;
mod weight;

pub use backend::Candle;
pub use expert_store::ExpertStore;
pub use kv_cache::KvCache;
pub use team::Team;
pub use weight::{Stored, Weight};
