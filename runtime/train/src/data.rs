//! Training data, generated: pictures composed from drawings and photographs, and chats about them.
//!
//! [`Generator`] is the way in: [`Generator::sample`] is a pure function of seed, split, size and index,
//! so nothing is stored and every worker can make any sample. Drawings come from pinned packages that are
//! fetched at run time; photographs from a folder, if there is one.

mod cells;
mod colour;
mod compose;
mod drawings;
mod generator;
mod grammar;
mod icons;
mod packages;
mod photos;
mod random;
mod sample;
mod scene;
mod small_talk;
mod things;
mod vocabulary;

pub use cells::{Aspect, Cell};
pub use generator::{DataOptions, Generator};
pub(crate) use random::Random;
pub use sample::{Sample, Skill, Split, Turn};
pub use vocabulary::train_vocabulary;
