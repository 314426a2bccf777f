//! Where each token of a prompt stands, which bank routes it, and which rows pictures fill.

use std::ops::Range;

use model::config::{Config, SpecialTokens, VisionConfig};
use model::{Positions, Span};

use crate::{Error, ModelInput, Result, Visual};

/// Positions are exact as `f32` up to here.
const MAX_POSITION: u32 = 1 << 24;

/// Patches that go through the vision tower at once; a long video takes several passes, which changes
/// nothing, because attention stays inside a frame and merging inside a pair of frames.
const MAX_PATCHES_A_PASS: usize = 16_384;

/// A prompt checked against the model, with all that follows from it on the host.
#[derive(Debug)]
pub(crate) struct Layout<'a> {
    pub(crate) token_ids: &'a [u32],
    /// `(time, height, width)` of each token.
    pub(crate) position_ids: Vec<[u32; 3]>,
    /// Whether each token counts as vision, for routing.
    pub(crate) is_vision: Vec<bool>,
    /// What the tower sees, by rising token rows.
    pub(crate) pieces: Vec<Piece<'a>>,
}

/// A picture, or some frames of a video.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// The placeholders it fills.
    pub(crate) rows: Range<usize>,
    /// `[t * h * w, patch values]`
    pub(crate) patches: &'a [f32],
    /// Of this piece.
    pub(crate) grid_thw: [u32; 3],
}

impl<'a> Layout<'a> {
    /// Lays out `input`.
    ///
    /// # Errors
    /// [`Error::Prompt`] if a token is not in the vocabulary, placeholders and visuals do not agree, or
    /// given positions are not one a token.
    pub(crate) fn new(input: &'a ModelInput, config: &Config) -> Result<Self> {
        let token_ids = &input.token_ids;
        let vocab_size = config.text.vocab_size;
        if let Some(id) = token_ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Error::Prompt(format!("token {id} is not in the vocabulary of {vocab_size}")));
        }
        let (spans, pieces) = match &config.vision {
            Some(vision) => visual_spans(input, &config.tokens, vision)?,
            None if input.visuals.is_empty() => (vec![Span::Text(token_ids.len())], Vec::new()),
            None => return Err(Error::Prompt("this is a text model and takes no pictures".to_owned())),
        };
        let is_vision = match config.vision {
            Some(_) => token_ids.iter().map(|&id| counts_as_vision(&config.tokens, id)).collect(),
            None => vec![false; token_ids.len()],
        };
        let position_ids = match &input.position_ids {
            Some(given) => given.clone(),
            None => Positions::walk(&spans).ids,
        };
        if position_ids.len() != token_ids.len() {
            let (given, n) = (position_ids.len(), token_ids.len());
            return Err(Error::Prompt(format!("{given} position ids were given for {n} tokens")));
        }
        match position_ids.iter().flatten().max() {
            Some(&largest) if largest > MAX_POSITION => {
                Err(Error::Prompt(format!("position {largest} is above the limit of {MAX_POSITION}")))
            }
            _ => Ok(Self { token_ids, position_ids, is_vision, pieces }),
        }
    }
}

/// Whether `id` stands for a patch of a picture.
pub(crate) fn is_placeholder(tokens: &SpecialTokens, id: u32) -> bool {
    id == tokens.image_placeholder || tokens.video_placeholder == Some(id)
}

/// Placeholders and the four delimiters are routed as vision.
/// Source: `token_type_ids` of the original ERNIE 4.5 VL processor.
fn counts_as_vision(tokens: &SpecialTokens, id: u32) -> bool {
    is_placeholder(tokens, id)
        || [tokens.image_start, tokens.image_end, tokens.video_start, tokens.video_end].contains(&id)
}

/// Walks the prompt and gives each visual its placeholders.
fn visual_spans<'a>(
    input: &'a ModelInput,
    tokens: &SpecialTokens,
    vision: &VisionConfig,
) -> Result<(Vec<Span>, Vec<Piece<'a>>)> {
    let (mut spans, mut pieces) = (Vec::new(), Vec::new());
    let (mut row, mut visuals) = (0, input.visuals.iter());
    while row < input.token_ids.len() {
        let rest = &input.token_ids[row..];
        let n_text = rest.iter().take_while(|&&id| !is_placeholder(tokens, id)).count();
        if n_text > 0 {
            spans.push(Span::Text(n_text));
            row += n_text;
            continue;
        }
        let Some(visual) = visuals.next() else {
            return Err(Error::Prompt(format!("the placeholder at token {row} has no picture")));
        };
        check_patches(visual, vision)?;
        let span = Span::visual(visual.grid_thw, vision.spatial_merge_size, vision.temporal_merge_size);
        let n_placeholders = rest.iter().take(span.len()).filter(|&&id| is_placeholder(tokens, id)).count();
        if span.is_empty() || n_placeholders < span.len() {
            return Err(Error::Prompt(format!(
                "the picture at token {row} needs {} placeholders for its grid {:?}, found {n_placeholders}",
                span.len(),
                visual.grid_thw
            )));
        }
        push_pieces(&mut pieces, visual, vision, row);
        spans.push(span);
        row += span.len();
    }
    match visuals.count() {
        0 => Ok((spans, pieces)),
        left => Err(Error::Prompt(format!("{left} pictures have no placeholders"))),
    }
}

/// Checks that a visual's grid is whole merge blocks and its patches fill it.
fn check_patches(visual: &Visual, vision: &VisionConfig) -> Result<()> {
    let grid = visual.grid_thw;
    let [t, h, w] = grid.map(|n| n as usize);
    let (merge, frames) = (vision.spatial_merge_size, vision.temporal_merge_size);
    if h % merge != 0 || w % merge != 0 || (t != 1 && t % frames != 0) {
        return Err(Error::Prompt(format!(
            "a grid of {grid:?} is not whole blocks of {merge} by {merge} patches and {frames} frames"
        )));
    }
    let patch_values = vision.in_channels * vision.patch_size * vision.patch_size;
    let needed = [t, h, w].into_iter().try_fold(patch_values, usize::checked_mul);
    if needed != Some(visual.patches.len()) {
        let found = visual.patches.len();
        return Err(Error::Prompt(format!(
            "a grid of {grid:?} needs that many patches of {patch_values} values, found {found} values"
        )));
    }
    Ok(())
}

/// Cuts a visual whose placeholders begin at `row` into passes of the tower.
fn push_pieces<'a>(pieces: &mut Vec<Piece<'a>>, visual: &'a Visual, vision: &VisionConfig, row: usize) {
    let [t, h, w] = visual.grid_thw.map(|n| n as usize);
    let frame_tokens = h * w / (vision.spatial_merge_size * vision.spatial_merge_size);
    let group = vision.temporal_merge_size.min(t);
    let groups_a_pass = (MAX_PATCHES_A_PASS / (group * h * w)).max(1);
    let frame_values = visual.patches.len() / t;
    let mut start = row;
    for patches in visual.patches.chunks(groups_a_pass * group * frame_values) {
        let frames = patches.len() / frame_values;
        let rows = start..start + frames / group * frame_tokens;
        start = rows.end;
        pieces.push(Piece { rows, patches, grid_thw: [frames as u32, h as u32, w as u32] });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH_VALUES: usize = 3;
    const IMAGE: u32 = 90;

    fn config() -> (SpecialTokens, VisionConfig) {
        let tokens = SpecialTokens {
            image_placeholder: IMAGE,
            video_placeholder: None,
            image_start: 91,
            image_end: 92,
            video_start: 93,
            video_end: 94,
            eos: vec![2],
        };
        let vision = VisionConfig {
            depth: 1,
            hidden_size: 8,
            intermediate_size: 8,
            n_heads: 1,
            patch_size: 1,
            in_channels: 3,
            spatial_merge_size: 2,
            temporal_merge_size: 2,
            norm_eps: 1e-6,
            rope_theta: 1e4,
        };
        (tokens, vision)
    }

    fn visual(grid_thw: [u32; 3]) -> Visual {
        let n: u32 = grid_thw.iter().product();
        let patches = vec![0.0; n as usize * PATCH_VALUES].into();
        Visual { patches, grid_thw, is_video: grid_thw[0] > 1, digest: 0 }
    }

    #[track_caller]
    fn check(token_ids: &[u32], grids: &[[u32; 3]], expected: Result<&[Span], &str>) {
        let (tokens, vision) = config();
        let visuals = grids.iter().map(|&grid| visual(grid)).collect();
        let input = ModelInput { token_ids: token_ids.to_vec(), visuals, position_ids: None };
        match (visual_spans(&input, &tokens, &vision), expected) {
            (Ok((spans, _)), Ok(expected)) => assert_eq!(spans, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn adjacent_pictures_take_their_own_placeholders() {
        let square = Span::Visual { frames: 1, rows: 1, cols: 1 };
        let wide = Span::Visual { frames: 1, rows: 1, cols: 2 };
        check(
            &[5, IMAGE, IMAGE, IMAGE, 6],
            &[[1, 2, 2], [1, 2, 4]],
            Ok(&[Span::Text(1), square, wide, Span::Text(1)]),
        );
    }

    #[test]
    fn placeholders_and_pictures_must_agree() {
        check(&[5, IMAGE], &[], Err("the placeholder at token 1 has no picture"));
        check(&[5], &[[1, 2, 2]], Err("1 pictures have no placeholders"));
        check(&[IMAGE, 5, IMAGE], &[[1, 2, 4]], Err("needs 2 placeholders for its grid [1, 2, 4], found 1"));
        check(&[IMAGE], &[[1, 0, 2]], Err("needs 0 placeholders"));
        check(&[IMAGE], &[[1, 3, 2]], Err("not whole blocks"));
        check(&[IMAGE], &[[3, 2, 2]], Err("not whole blocks"));
    }

    #[test]
    fn a_long_video_takes_several_passes() {
        let (_, vision) = config();
        let video = visual([6, 64, 128]);
        let mut pieces = Vec::new();
        push_pieces(&mut pieces, &video, &vision, 7);
        let rows: Vec<_> = pieces.iter().map(|piece| (piece.rows.clone(), piece.grid_thw[0])).collect();
        assert_eq!(rows, [(7..2055, 2), (2055..4103, 2), (4103..6151, 2)]);
    }
}
