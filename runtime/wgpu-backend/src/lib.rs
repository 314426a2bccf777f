//! Ocelli's operations in WGSL on `wgpu`: WebGPU in the browser, Vulkan, Metal and DX12 elsewhere.
//!
//! [`Wgpu`] implements [`tensor::Backend`]. Operations are recorded and submitted when something is read; weights
//! stay block-quantised on the device; sums, gates and rotations are put off until their consumer, which does
//! both in one dispatch. This crate knows no model, no file and no clock.
//!
//! ```no_run
//! # async fn example() -> tensor::Result<()> {
//! use tensor::{Backend, RawTensor};
//! use wgpu_backend::Wgpu;
//!
//! let b = Wgpu::request().await?;
//! let x = b.tensor(&[1.0, 2.0], 2)?;
//! let w = b.weight(RawTensor::from_f32("w", &[1, 2], &[3.0, 4.0]))?;
//! assert_eq!(b.read(&b.linear(&x, &w, None)?).await?, [11.0]);
//! # Ok(())
//! # }
//! ```

mod backend;
mod counters;
mod device;
mod fault;
mod kv_cache;
mod ops;
mod pipeline;
mod pool;
mod read;
mod recorder;
mod source;
mod tensor_node;
mod weight;

pub use counters::Counters;
pub use device::{Adapter, Options, Tier, Wgpu};
pub use kv_cache::KvCache;
pub use tensor_node::{Ids, Tensor};
pub use weight::Weight;
