//! The cache of a conversation as bytes, so that a later process need not read it again.

use crate::cache_keys::CacheKey;
use crate::{Error, Result};

/// Keys and values of cached tokens, and where each stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CachedRows {
    /// Time, height and width of each token.
    pub position_ids: Vec<[u32; 3]>,
    /// Of each layer: keys and values, `[tokens, kv_width]` each.
    pub layers: Vec<[Vec<f32>; 2]>,
}

const MAGIC: &[u8; 8] = b"OCELKV01";
/// Tokens of a snapshot; more than any model's context.
const MAX_TOKENS: usize = 1 << 20;
/// Values of a layer's keys, so that no product overflows.
const MAX_WIDTH: usize = 1 << 16;

/// What a snapshot must fit.
pub(crate) struct Sizes {
    pub(crate) n_layers: usize,
    pub(crate) kv_width: usize,
    pub(crate) context_limit: usize,
    pub(crate) vocab_size: usize,
}

/// Header, keys, positions, layers, checksum; all numbers little-endian.
pub(crate) fn write(model: u64, keys: &[CacheKey], rows: &CachedRows) -> Vec<u8> {
    let width = rows.layers.first().map_or(0, |[k, _]| k.len() / keys.len().max(1));
    let mut out = MAGIC.to_vec();
    out.extend(model.to_le_bytes());
    for n in [keys.len(), rows.layers.len(), width] {
        out.extend((n as u32).to_le_bytes());
    }
    for (id, digest) in keys {
        out.extend(id.to_le_bytes());
        out.extend(digest.to_le_bytes());
    }
    out.extend(rows.position_ids.iter().flatten().flat_map(|x| x.to_le_bytes()));
    out.extend(rows.layers.iter().flatten().flatten().flat_map(|x| x.to_le_bytes()));
    let sum = checksum(&out);
    out.extend(sum.to_le_bytes());
    out
}

/// The snapshot of a conversation with the model of that fingerprint and these sizes.
///
/// # Errors
/// If the bytes are damaged, of another version, or of another model.
pub(crate) fn read(bytes: &[u8], model: u64, sizes: &Sizes) -> Result<(Vec<CacheKey>, CachedRows)> {
    let damaged = |detail: &str| Error::Snapshot(detail.to_owned());
    let (body, sum) = bytes.split_last_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
    let mut rest = body.strip_prefix(MAGIC).ok_or_else(|| damaged("it is of another version"))?;
    let mut word = || {
        let (word, more) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it is too short"))?;
        rest = more;
        Ok::<u32, Error>(u32::from_le_bytes(*word))
    };
    let (low, high) = (word()?, word()?);
    if u64::from(low) | u64::from(high) << 32 != model {
        return Err(damaged("it is of another model"));
    }
    let (n, n_layers, width) = (word()? as usize, word()? as usize, word()? as usize);
    if n_layers != sizes.n_layers || width != sizes.kv_width || width > MAX_WIDTH {
        return Err(damaged("it is of a model of another size"));
    }
    if n == 0 || n > sizes.context_limit.min(MAX_TOKENS) {
        return Err(damaged("it has more tokens than the model takes"));
    }
    if rest.len() != n * (12 + 12 + n_layers * 2 * width * 4) {
        return Err(damaged("it is cut short"));
    }
    if checksum(body) != u64::from_le_bytes(*sum) {
        return Err(damaged("it is damaged"));
    }
    let (keys, rest) = rest.split_at(n * 12);
    let (positions, values) = rest.split_at(n * 12);
    let key = |bytes: &[u8; 12]| {
        let [a, b, c] = words(bytes);
        (a, u64::from(b) | u64::from(c) << 32)
    };
    let keys: Vec<CacheKey> = keys.as_chunks::<12>().0.iter().map(key).collect();
    if keys.iter().any(|&(id, _)| id as usize >= sizes.vocab_size) {
        return Err(damaged("it has a token that the model does not know"));
    }
    let position_ids: Vec<[u32; 3]> = positions.as_chunks::<12>().0.iter().map(words).collect();
    if position_ids.iter().flatten().any(|&position| position as usize >= sizes.context_limit) {
        return Err(damaged("it has a token where the model has no place"));
    }
    let mut values = values.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let mut matrix = || values.by_ref().take(n * width).collect::<Vec<f32>>();
    let layers = (0..n_layers).map(|_| [matrix(), matrix()]).collect();
    Ok((keys, CachedRows { position_ids, layers }))
}

fn words(bytes: &[u8; 12]) -> [u32; 3] {
    let word = |i: usize| u32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]);
    [word(0), word(4), word(8)]
}

/// Tells damage, not malice: whoever can write snapshots can write conversations too.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 32)
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZES: Sizes = Sizes { n_layers: 2, kv_width: 3, context_limit: 10, vocab_size: 100 };

    fn sample() -> (Vec<CacheKey>, CachedRows) {
        let keys = vec![(7, 0), (99, u64::MAX), (3, 5)];
        let matrix = |x: f32| (0..9).map(|i| x + i as f32).collect::<Vec<_>>();
        let layers = vec![[matrix(0.5), matrix(-3.0)], [matrix(1e30), matrix(0.0)]];
        (keys, CachedRows { position_ids: vec![[0, 0, 0], [1, 2, 3], [4, 4, 4]], layers })
    }

    #[test]
    fn what_was_written_is_read() {
        let (keys, rows) = sample();
        let bytes = write(11, &keys, &rows);
        assert_eq!(read(&bytes, 11, &SIZES).unwrap(), (keys, rows));
    }

    #[test]
    fn other_models_are_refused() {
        let (keys, rows) = sample();
        let bytes = write(11, &keys, &rows);
        for (model, sizes) in [
            (12, SIZES),
            (11, Sizes { n_layers: 1, ..SIZES }),
            (11, Sizes { kv_width: 4, ..SIZES }),
            (11, Sizes { context_limit: 2, ..SIZES }),
            (11, Sizes { vocab_size: 50, ..SIZES }),
        ] {
            assert!(read(&bytes, model, &sizes).is_err());
        }
    }

    proptest! {
        #[test]
        fn damage_is_found(at in 0_usize..400, bit in 0_u8..8, cut in 0_usize..400) {
            let (keys, rows) = sample();
            let mut bytes = write(11, &keys, &rows);
            let n = bytes.len();
            prop_assert!(read(&bytes[..cut.min(n - 1)], 11, &SIZES).is_err());
            bytes[at % n] ^= 1 << bit;
            prop_assert!(read(&bytes, 11, &SIZES).is_err());
        }
    }
}
