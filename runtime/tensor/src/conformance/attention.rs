//! Attention, its masks and its cache.

use super::inputs::{Rows, rows};
use super::{Case, Suite, Values};
use crate::{Backend, Heads, Mask, Result};

/// For caches that round: of eight bits, keys change scores by some hundredths, and so a weight by as much.
const CACHE_BOUND: f64 = 1e-3;

pub(super) async fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    let heads = |n_heads, n_kv_heads, head_dim| Heads { n_heads, n_kv_heads, head_dim };
    let all = [heads(1, 1, 4), heads(4, 4, 16), heads(6, 2, 9), heads(8, 1, 33), heads(16, 2, 3)];
    for heads in all {
        for n in [1, 2, 9, 70] {
            suite.agree(Attention::new(n, heads)).await;
        }
        for causal in [true, false] {
            for cu_seqlens in [vec![0, 1], vec![0, 3, 4, 11], vec![0, 5, 5, 9], vec![0, 67, 70]] {
                suite.agree(Attention::segments(cu_seqlens, causal, heads)).await;
            }
        }
        for (capacity, appends) in [(0, [1, 1, 1]), (2, [5, 3, 1]), (64, [1, 40, 9])] {
            suite.agree(Cached { heads, capacity, appends: appends.to_vec() }).await;
        }
        for (len, then) in [(3, 2), (7, 1), (0, 4)] {
            suite.agree(Truncated { heads, len, then }).await;
        }
        for (n, then) in [(1, 1), (21, 3)] {
            suite.agree(Copied { heads, n, then }).await;
        }
        let turns = vec![vec![3, 1], vec![1, 1], vec![0, 5]];
        suite.agree(Sequences { heads, turns }).await;
    }
    // More keys than any kernel takes at a time, seen by one row and by a few.
    suite.agree(Attention::new(600, heads(2, 1, 8))).await;
    suite.agree(Cached { heads: heads(2, 1, 4), capacity: 10, appends: vec![1100, 1, 3] }).await;

    let good = Attention::new(5, heads(4, 2, 8));
    suite.refuse(Attention { q: rows(5, 31), ..good.clone() }).await;
    suite.refuse(Attention { k: rows(4, 16), ..good.clone() }).await;
    suite.refuse(Attention { v: rows(5, 32), ..good.clone() }).await;
    // Three query heads cannot share two key heads.
    suite.refuse(Attention { q: rows(5, 24), heads: heads(3, 2, 8), ..good.clone() }).await;
    for cu_seqlens in [vec![], vec![0], vec![0, 4], vec![1, 5], vec![0, 4, 3, 5], vec![0, 6]] {
        suite.refuse(Attention { segments: Some((cu_seqlens, true)), ..good.clone() }).await;
    }
    suite.refuse(Attention { cache: Some(heads(4, 4, 8)), ..good.clone() }).await;
    let segments = Some((vec![0, 5], true));
    suite.refuse(Attention { segments, cache: Some(good.heads), ..good }).await;
    suite.refuse(Truncated { heads: heads(2, 1, 4), len: 8, then: 1 }).await;
}

#[derive(Debug, Clone)]
struct Attention {
    q: Rows,
    k: Rows,
    v: Rows,
    heads: Heads,
    /// `cu_seqlens` and whether they are causal.
    segments: Option<(Vec<u32>, bool)>,
    /// With an empty cache for these heads.
    cache: Option<Heads>,
}

impl Attention {
    fn new(n: usize, heads: Heads) -> Self {
        // Large enough that some rows look at one key nearly alone.
        let q = rows(n, heads.q_width()).times(4.0);
        let kv = rows(n, heads.kv_width());
        Self { q, k: kv.seed(5).times(2.0), v: kv.seed(6), heads, segments: None, cache: None }
    }

    fn segments(cu_seqlens: Vec<u32>, causal: bool, heads: Heads) -> Self {
        let n = cu_seqlens.last().map_or(0, |&end| end as usize);
        Self { segments: Some((cu_seqlens, causal)), ..Self::new(n, heads) }
    }
}

impl Case for Attention {
    const OPS: &'static [&'static str] = &["attention"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let mask = match &self.segments {
            Some((cu_seqlens, causal)) => Mask::Segments { cu_seqlens, causal: *causal },
            None => Mask::Causal,
        };
        let mut cache = self.cache.map(|heads| b.cache(heads, 4)).transpose()?;
        let [q, k, v] = [self.q.on(b)?, self.k.on(b)?, self.v.on(b)?];
        Ok(vec![Values::rows(b, &b.attention([&q, &k, &v], self.heads, &mask, cache.as_mut())?).await?])
    }
}

/// Appends `n` rows to `cache`, and says how many are in it then.
async fn append<B: Backend>(b: &B, heads: Heads, n: usize, cache: &mut B::Cache) -> Result<[Values; 2]> {
    let seed = 20 + b.cache_len(cache) as u64;
    let Attention { q, k, v, .. } = Attention::new(n, heads);
    let [q, k, v] = [q.seed(seed).on(b)?, k.seed(seed + 1).on(b)?, v.seed(seed + 2).on(b)?];
    let y = b.attention([&q, &k, &v], heads, &Mask::Causal, Some(cache))?;
    Ok([Values::rows(b, &y).await?, Values::Indices(vec![b.cache_len(cache) as u32])])
}

/// Rows in several runs.
#[derive(Debug)]
struct Cached {
    heads: Heads,
    capacity: usize,
    appends: Vec<usize>,
}

impl Case for Cached {
    const OPS: &'static [&'static str] =
        &["cache", "cache_len", "cache_row_bytes", "exact_rows", "attention"];

    fn rounded_bound(&self) -> Option<f64> {
        Some(CACHE_BOUND)
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let mut cache = b.cache(self.heads, self.capacity)?;
        // These are the backend's to choose, but none would be a lie.
        let is_true = [b.cache_row_bytes(self.heads) > 0, b.exact_rows() > 0].map(u32::from);
        let mut values =
            vec![Values::Indices(vec![b.cache_len(&cache) as u32]), Values::Indices(is_true.into())];
        for &n in &self.appends {
            values.extend(append(b, self.heads, n, &mut cache).await?);
        }
        Ok(values)
    }
}

/// Seven rows, cut to `len`, and `then` others.
#[derive(Debug)]
struct Truncated {
    heads: Heads,
    len: usize,
    then: usize,
}

impl Case for Truncated {
    const OPS: &'static [&'static str] = &["truncate", "cache_len", "attention"];

    fn rounded_bound(&self) -> Option<f64> {
        Some(CACHE_BOUND)
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let mut cache = b.cache(self.heads, 4)?;
        append(b, self.heads, 7, &mut cache).await?;
        b.truncate(&mut cache, self.len)?;
        let len = Values::Indices(vec![b.cache_len(&cache) as u32]);
        let [y, longer] = append(b, self.heads, self.then, &mut cache).await?;
        Ok(vec![len, y, longer])
    }
}

/// `n` rows, read from their cache and written into another, and `then` more. A backend that keeps its cache to itself
/// goes on with the first.
#[derive(Debug)]
struct Copied {
    heads: Heads,
    n: usize,
    then: usize,
}

impl Case for Copied {
    const OPS: &'static [&'static str] = &["read_cache", "append_cache", "cache_len", "attention"];

    fn rounded_bound(&self) -> Option<f64> {
        Some(CACHE_BOUND)
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let mut cache = b.cache(self.heads, 4)?;
        append(b, self.heads, self.n, &mut cache).await?;
        if let Some([k, v]) = b.read_cache(&cache)? {
            let mut other = b.cache(self.heads, 4)?;
            // In two parts, so that the second follows something.
            let (first, rest) = (self.heads.kv_width(), self.heads.kv_width()..);
            let is_taken = b.append_cache(&mut other, &k[..first], &v[..first])?
                && b.append_cache(&mut other, &k[rest.clone()], &v[rest])?;
            cache = if is_taken { other } else { cache };
        }
        let len = Values::Indices(vec![b.cache_len(&cache) as u32]);
        let [y, longer] = append(b, self.heads, self.then, &mut cache).await?;
        Ok(vec![len, y, longer])
    }
}

/// Rows of several sequences at once, in some turns.
#[derive(Debug)]
struct Sequences {
    heads: Heads,
    /// Rows of each sequence, a turn each.
    turns: Vec<Vec<usize>>,
}

impl Case for Sequences {
    const OPS: &'static [&'static str] = &["attention_of_sequences", "cache_len"];

    fn rounded_bound(&self) -> Option<f64> {
        Some(CACHE_BOUND)
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let mut caches = [b.cache(self.heads, 4)?, b.cache(self.heads, 4)?];
        let mut values = Vec::new();
        for (seed, turn) in (40..).step_by(3).zip(&self.turns) {
            let mut cu_seqlens = vec![0];
            cu_seqlens.extend(turn.iter().scan(0, |end, &n| {
                *end += n as u32;
                Some(*end)
            }));
            let Attention { q, k, v, .. } = Attention::new(turn.iter().sum(), self.heads);
            let [q, k, v] = [q.seed(seed).on(b)?, k.seed(seed + 1).on(b)?, v.seed(seed + 2).on(b)?];
            let [first, second] = &mut caches;
            let y = b.attention_of_sequences([&q, &k, &v], self.heads, &cu_seqlens, &mut [first, second])?;
            values.push(Values::rows(b, &y).await?);
        }
        values.extend(caches.iter().map(|cache| Values::Indices(vec![b.cache_len(cache) as u32])));
        Ok(values)
    }
}
