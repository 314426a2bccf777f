//! The tools that come with this program. None of them runs a shell.

mod calculator;
mod clock;
mod expression;
#[cfg(not(target_family = "wasm"))]
mod files;
mod picture_info;
mod zoom;

pub use calculator::Calculator;
pub use clock::Clock;
#[cfg(not(target_family = "wasm"))]
pub use files::{Folder, Folders};
pub use picture_info::ImageInfo;
pub use zoom::ImageZoom;
