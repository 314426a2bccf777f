//! The one compute interface of Ocelli, its plain-loop reference implementation, and weight files.
//!
//! [`Backend`] lists the coarse operations the models need; [`Reference`] says in plain `f32`
//! loops what each of them means; [`weights`] reads safetensors and GGUF bytes.
//! This crate knows no device API, no clock and no file system: bytes come in, matrices go out.
//!
//! ```
//! use tensor::{Backend, RawTensor, Reference};
//!
//! let b = Reference;
//! let x = b.tensor(&[1.0, 2.0], 2)?;
//! let w = b.weight(RawTensor::from_f32("w", &[1, 2], &[3.0, 4.0]))?;
//! let y = b.linear(&x, &w, None)?;
//! assert_eq!(y.data(), [11.0]);
//! # Ok::<(), tensor::Error>(())
//! ```

mod backend;
pub mod conformance;
mod dtype;
mod error;
mod params;
mod profile;
mod raw;
mod reference;
mod taps;
pub mod weights;

pub use backend::{Backend, Candidate, Experts, Routing, attend_in_turn};
pub use dtype::{BlockShape, DType};
pub use error::{Error, Result};
pub use params::{ExpertUse, Gelu, Heads, KvType, Mask, RopePairs, WeightBytes};
pub use profile::{OpProfile, Profile, Profiled};
pub use raw::{FileBytes, RawTensor, SharedBytes};
pub use reference::{Matrix, Reference, ReferenceCache, ReferenceWeight};
pub use taps::{Tapped, Taps};
pub use weights::Weights;
