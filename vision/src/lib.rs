//! From picture bytes to the rows a vision tower reads, and the tower itself.
//!
//! The front half is plain host arithmetic: [`decode()`] turns a file into 8-bit RGB under explicit
//! [`Limits`], [`Preprocessor`] resizes it as the reference does, bit for bit, and cuts it into
//! normalised [`Patches`]. [`video`] chooses frames, writes their time on them, and stacks them.
//! Whatever a picture loses on the way is listed as [`Note`]s beside the result.
//!
//! This crate must never know a device or a language model. Opening files and running `ffmpeg` are
//! native modules, so all else compiles to WebAssembly.
//!
//! ```
//! use vision::{Picture, Preprocessor};
//!
//! let picture = Picture::new(640, 480, vec![127; 640 * 480 * 3])?;
//! let patches = Preprocessor::default().image(&picture)?;
//! assert_eq!(patches.grid_thw, [1, 34, 46]);
//! assert_eq!(patches.n_tokens(), 391);
//! # Ok::<(), vision::Error>(())
//! ```

mod container;
mod decode;
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod files;
mod flatten;
mod grid;
mod jpeg;
mod note;
mod patchify;
mod picture;
mod preprocessor;
mod resampler;
mod resize;
mod tower;
pub mod video;

pub use container::frame_durations;
pub use decode::{DecodeOptions, Limits, decode};
pub use error::{Error, Result};
#[cfg(not(target_arch = "wasm32"))]
pub use files::{is_picture_file, natural_order, open};
pub use grid::smart_resize;
pub use note::Note;
pub use patchify::{FrameStack, Patches};
pub use picture::Picture;
pub use preprocessor::Preprocessor;
pub use resampler::Resampler;
pub use resize::resize_bicubic;
pub use tower::{Tower, TowerConfig};
