//! What tells one cached token from another.

use model::Span;
use model::config::Config;

use crate::{Error, ModelInput, Result, Visual};

/// A token id and, for the placeholders of a picture, the picture's digest (else 0).
pub(crate) type CacheKey = (u32, u64);

/// The keys of a prompt: placeholder runs take the visuals in order.
///
/// # Errors
/// If the runs are not as long as the visuals need.
pub(crate) fn cache_keys(input: &ModelInput, config: &Config) -> Result<Vec<CacheKey>> {
    let mut keys: Vec<CacheKey> = input.token_ids.iter().map(|&id| (id, 0)).collect();
    let tokens = &config.tokens;
    let mut next = 0;
    for (i, visual) in input.visuals.iter().enumerate() {
        let is_placeholder =
            |&(id, _): &CacheKey| id == tokens.image_placeholder || Some(id) == tokens.video_placeholder;
        let n = n_tokens(visual, config)?;
        let start = keys[next..].iter().position(is_placeholder).map_or(keys.len(), |at| next + at);
        let run = keys[start..].iter().take(n).take_while(|key| is_placeholder(key)).count();
        if run < n {
            return Err(Error::Prompt(format!("picture {} needs {n} placeholders, but has {run}", i + 1)));
        }
        for key in &mut keys[start..start + n] {
            key.1 = visual.digest;
        }
        next = start + n;
    }
    Ok(keys)
}

/// Rows that the resampler makes of a visual.
fn n_tokens(visual: &Visual, config: &Config) -> Result<usize> {
    let vision = config.vision.as_ref().ok_or_else(|| Error::Prompt("this model reads only text".into()))?;
    Ok(Span::visual(visual.grid_thw, vision.spatial_merge_size, vision.temporal_merge_size).len())
}
