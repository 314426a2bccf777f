//! Picture files to patches, and to what a person can look at.

use std::sync::Arc;

use engine::Part;
use protocol::{PictureView, Problem};
use vision::{DecodeOptions, Preprocessor, decode, resize_bicubic};

use crate::browser::input_problem;

/// A picture as the model takes it, and as it is shown.
pub(crate) fn see(bytes: &[u8], preprocessor: &Preprocessor) -> Result<(Part, PictureView), Problem> {
    let picture = decode(bytes, &DecodeOptions::default()).map_err(|error| input_problem(&error))?;
    let patches = preprocessor.image(&picture).map_err(|error| input_problem(&error))?;
    let (height, width) = patches.resized();
    let rgb = resize_bicubic(&picture.rgb, picture.width, picture.height, width, height);
    let rgba = rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
    let view = PictureView {
        original: [picture.width, picture.height],
        resized: [width, height],
        rgba,
        patch_size: patches.patch_size,
        merge_size: patches.merge_size,
        n_tokens: patches.n_tokens(),
        notes: patches.notes.iter().map(ToString::to_string).collect(),
    };
    Ok((Part::Image(Arc::new(patches)), view))
}
