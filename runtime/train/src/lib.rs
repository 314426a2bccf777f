//! Trains the small model that ships with Ocelli, on the same decoder, tower and resampler that run it.
//!
//! [`data`] makes pictures and chats; [`Parameters`] is the initialiser behind the `Weights` trait;
//! [`Trainer`] takes the steps; [`export`] writes files that every backend loads; [`evaluate`](evaluate())
//! scores them. This crate is for building a model, and nothing that runs one depends on it.

// One `json!` holds a whole model configuration.
#![recursion_limit = "256"]

mod batch;
mod checkpoint;
pub mod data;
mod evaluate;
pub mod export;
mod eyes;
mod learner;
mod parameters;
pub mod recipe;
mod routers;
mod trainer;

pub use batch::{Batch, Packer};
pub use checkpoint::Checkpoint;
pub use evaluate::{Report, Score, evaluate, overall};
pub use eyes::Named;
pub use learner::{Learner, Loss, LossWeights};
pub use parameters::{Kind, Parameter, Parameters};
pub use trainer::{Budget, Lesson, Plan, Run, StepReport, Trainer, WeightKind};
