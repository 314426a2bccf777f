//! Named input arrays → a prompt.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use model::Span;
use model::config::Config;
use tensor::weights::{NamedArray, TensorIndex};

use crate::layout::is_placeholder;
use crate::{Error, ModelInput, Result, Visual};

const KNOWN: [&str; 7] = [
    "input_ids",
    "position_ids",
    "logits_rows",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
];

/// What an evaluation runs.
#[derive(Debug)]
pub struct EvalCase {
    /// The prompt, its visuals in the order of their placeholders.
    pub input: ModelInput,
    /// Rows whose logits are wanted, as asked for; all rows if nothing was asked.
    pub logits_rows: Vec<usize>,
    /// What was ignored.
    pub warnings: Vec<String>,
}

impl EvalCase {
    /// Reads the inputs of a case for a model of `config`.
    ///
    /// # Errors
    /// If an array is missing, has another shape or type than its name asks for, or pictures and placeholders
    /// do not agree.
    pub fn read(arrays: &TensorIndex, config: &Config) -> Result<Self> {
        let warnings = arrays.names().filter(|name| !KNOWN.contains(name));
        let warnings = warnings.map(|name| format!("tensor `{name}` is not known and was ignored")).collect();
        let Some(token_ids) = u32s(arrays, "input_ids")? else {
            return Err(Error::Prompt("the inputs have no `input_ids`".to_owned()));
        };
        let (shape, token_ids) = token_ids;
        expect_shape("input_ids", &shape, &[1, token_ids.len()])?;
        let n = token_ids.len();
        let logits_rows = match u32s(arrays, "logits_rows")? {
            Some((_, rows)) => rows.into_iter().map(|row| row as usize).collect(),
            None => (0..n).collect(),
        };
        let position_ids = match u32s(arrays, "position_ids")? {
            Some((shape, ids)) => {
                expect_shape("position_ids", &shape, &[3, n])?;
                Some((0..n).map(|i| [ids[i], ids[n + i], ids[2 * n + i]]).collect())
            }
            None => None,
        };
        let images = visuals(arrays, "pixel_values", "image_grid_thw", false)?;
        let videos = visuals(arrays, "pixel_values_videos", "video_grid_thw", true)?;
        let visuals = in_prompt_order(&token_ids, config, images, videos)?;
        let input = ModelInput { token_ids, visuals, position_ids };
        Ok(Self { input, logits_rows, warnings })
    }

    /// Where rows of each visual lie among `rows_of` each in prompt order, images first, then videos.
    pub(super) fn images_first(&self, rows_of: impl Fn(&Visual) -> usize) -> Vec<Range<usize>> {
        let mut start = 0;
        let mut ranges: Vec<(bool, Range<usize>)> = Vec::new();
        for visual in &self.input.visuals {
            let end = start + rows_of(visual);
            ranges.push((visual.is_video, start..end));
            start = end;
        }
        ranges.sort_by_key(|(is_video, _)| *is_video);
        ranges.into_iter().map(|(_, range)| range).collect()
    }
}

fn expect_shape(name: &str, shape: &[usize], expected: &[usize]) -> Result<()> {
    match shape == expected {
        true => Ok(()),
        false => Err(Error::Prompt(format!("`{name}` has shape {shape:?}, expected {expected:?}"))),
    }
}

/// Shape and values of an integer array.
fn u32s(arrays: &TensorIndex, name: &str) -> Result<Option<(Vec<usize>, Vec<u32>)>> {
    let Some((shape, values)) = arrays.array(name)? else { return Ok(None) };
    let NamedArray::I64(values) = values else {
        return Err(Error::Prompt(format!("`{name}` holds no integers")));
    };
    let narrow = |v: i64| {
        u32::try_from(v).map_err(|_| Error::Prompt(format!("`{name}` holds {v}, which is no index")))
    };
    Ok(Some((shape, values.into_iter().map(narrow).collect::<Result<_>>()?)))
}

/// The pictures or videos of one pair of arrays.
fn visuals(arrays: &TensorIndex, pixels: &str, grids: &str, is_video: bool) -> Result<VecDeque<Visual>> {
    let (pixel_values, grid_thw) = match (arrays.array(pixels)?, u32s(arrays, grids)?) {
        (None, None) => return Ok(VecDeque::new()),
        (Some(pixel_values), Some(grid_thw)) => (pixel_values, grid_thw),
        _ => return Err(Error::Prompt(format!("`{pixels}` and `{grids}` need each other"))),
    };
    let (&[n_patches, patch_values], NamedArray::F32(values)) = (&*pixel_values.0, &pixel_values.1) else {
        return Err(Error::Prompt(format!("`{pixels}` is not a matrix of floats")));
    };
    let (shape, grid_thw) = grid_thw;
    expect_shape(grids, &shape, &[grid_thw.len() / 3, 3])?;
    let mut visuals = VecDeque::new();
    if patch_values == 0 {
        return Err(Error::Prompt(format!("the patches of `{pixels}` are empty")));
    }
    let mut rest = values.as_slice();
    for grid in grid_thw.as_chunks::<3>().0 {
        let len = grid.iter().try_fold(patch_values, |n, &side| n.checked_mul(side as usize));
        let Some((patches, later)) = len.and_then(|len| rest.split_at_checked(len)) else {
            return Err(Error::Prompt(format!(
                "`{grids}` has more patches than the {n_patches} of `{pixels}`"
            )));
        };
        rest = later;
        visuals.push_back(Visual { patches: Arc::from(patches), grid_thw: *grid, is_video, digest: 0 });
    }
    match rest.is_empty() {
        true => Ok(visuals),
        false => {
            Err(Error::Prompt(format!("`{grids}` has fewer patches than the {n_patches} of `{pixels}`")))
        }
    }
}

/// Deals images and videos to the placeholders, which may come in any order.
///
/// Where both kinds share a placeholder, the delimiter before it tells which is meant.
fn in_prompt_order(
    token_ids: &[u32],
    config: &Config,
    mut images: VecDeque<Visual>,
    mut videos: VecDeque<Visual>,
) -> Result<Vec<Visual>> {
    let tokens = &config.tokens;
    let Some(vision) = &config.vision else { return Ok(images.into_iter().chain(videos).collect()) };
    let (mut visuals, mut row, mut in_video) = (Vec::new(), 0, false);
    while let Some(&id) = token_ids.get(row) {
        if !is_placeholder(tokens, id) {
            in_video = id == tokens.video_start || (in_video && id != tokens.image_start);
            row += 1;
            continue;
        }
        let is_video = match tokens.video_placeholder {
            Some(video) if video != tokens.image_placeholder => id == video,
            _ => in_video,
        };
        let (kind, queue) = match is_video {
            true => ("video", &mut videos),
            false => ("picture", &mut images),
        };
        let Some(visual) = queue.pop_front() else {
            return Err(Error::Prompt(format!("the placeholder at token {row} has no {kind}")));
        };
        let (spatial, temporal) = (vision.spatial_merge_size, vision.temporal_merge_size);
        row += Span::visual(visual.grid_thw, spatial, temporal).len().max(1);
        visuals.push(visual);
    }
    // What is left over has no placeholder; laying out the prompt says so.
    visuals.extend(images.into_iter().chain(videos));
    Ok(visuals)
}
