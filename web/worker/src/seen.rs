//! Picture files to patches, and to what a person can look at.

use std::sync::Arc;

use engine::Part;
use protocol::{PictureView, Problem, Sight};
use vision::{DecodeOptions, Picture, Preprocessor, decode, resize_bicubic};

use crate::browser::input_problem;

/// Pixels that a server may have seen, and pixels of a side of a patch.
const MAX_PIXELS: u64 = 1 << 24;
const MAX_PATCH: u32 = 1 << 8;

/// A picture as the model takes it, and as it is shown.
pub(crate) fn see(bytes: &[u8], preprocessor: &Preprocessor) -> Result<(Part, PictureView), Problem> {
    let picture = decoded(bytes)?;
    let patches = preprocessor.image(&picture).map_err(|error| input_problem(&error))?;
    let view = view(&picture, patches.sight());
    Ok((Part::Image(Arc::new(patches)), view))
}

/// A picture as a model elsewhere saw it, by its own account.
pub(crate) fn show(bytes: &[u8], sight: Sight) -> Result<PictureView, Problem> {
    let [width, height] = sight.resized;
    let fits = (1..=MAX_PIXELS).contains(&(u64::from(width) * u64::from(height)))
        && (1..=MAX_PATCH).contains(&sight.patch_size)
        && (1..=MAX_PATCH).contains(&sight.merge_size);
    match fits {
        true => Ok(view(&decoded(bytes)?, sight)),
        false => Err(Problem::Input { message: "a picture cannot have been seen so".into() }),
    }
}

fn decoded(bytes: &[u8]) -> Result<Picture, Problem> {
    decode(bytes, &DecodeOptions::default()).map_err(|error| input_problem(&error))
}

fn view(picture: &Picture, sight: Sight) -> PictureView {
    let [width, height] = sight.resized;
    let rgb = resize_bicubic(&picture.rgb, picture.width, picture.height, width, height);
    let rgba = rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    PictureView { sight, rgba }
}
