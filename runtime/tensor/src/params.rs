//! Small descriptions that travel with an operation.

/// How the features of one attention row are divided into heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; each serves `n_heads / n_kv_heads` consecutive query heads.
    pub n_kv_heads: usize,
    /// Features of one head. The softmax scale is `head_dim^-0.5`.
    pub head_dim: usize,
}

impl Heads {
    /// Width of a row of queries.
    #[must_use]
    pub fn q_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of a row of keys, and of a row of values.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Whether every key head serves the same number of query heads.
    #[must_use]
    pub fn divide_evenly(&self) -> bool {
        self.head_dim > 0 && self.n_heads > 0 && self.n_heads.checked_rem(self.n_kv_heads) == Some(0)
    }

    /// The softmax scale.
    #[must_use]
    pub fn scale(&self) -> f32 {
        (self.head_dim as f32).powf(-0.5)
    }
}

/// What the keys and values of a cache are kept as. Attention computes in `f32` on all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KvType {
    /// As computed.
    #[default]
    F32,
    /// Half the bytes, and eleven bits of each value.
    F16,
    /// About a quarter of the bytes: signed bytes, and a scale for every 32 features of a head.
    Q8_0,
}

impl KvType {
    /// All types.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// Bytes of the keys and values of one token in one layer.
    #[must_use]
    pub fn row_bytes(self, heads: Heads) -> usize {
        let values = 2 * heads.kv_width();
        match self {
            Self::F32 => 4 * values,
            Self::F16 => 2 * values,
            Self::Q8_0 => values + 2 * 2 * heads.n_kv_heads * heads.head_dim.div_ceil(32),
        }
    }

    /// The name of the type, as of storage types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// The type of a [`name`](Self::name), in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kv_type| kv_type.name().eq_ignore_ascii_case(name))
    }
}

/// Which rows an attention row may look at.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// Row `i` sees all cached rows and the new rows up to itself: the decoder.
    Causal,
    /// Rows see only rows of their own segment.
    Segments {
        /// Segment bounds: `0, end of first, …, n`. Never decreasing.
        cu_seqlens: &'a [u32],
        /// Whether rows see only earlier rows of the segment and themselves:
        /// `true` for packed training rows, `false` for the vision tower.
        causal: bool,
    },
}

impl Mask<'_> {
    /// Whether bounds are ordered and cover exactly `n` rows.
    #[must_use]
    pub fn segments_cover(cu_seqlens: &[u32], n: usize) -> bool {
        cu_seqlens.first() == Some(&0)
            && cu_seqlens.last().is_some_and(|&end| end as usize == n)
            && cu_seqlens.is_sorted()
    }
}

/// Which two features of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopePairs {
    /// Features `2i` and `2i + 1`: ERNIE 4.5 text, GPT-J.
    Interleaved,
    /// Features `i` and `i + head_dim / 2`: the vision tower, PaddleOCR-VL text.
    Halves,
}

/// Which approximation of the Gaussian error linear unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gelu {
    /// `x · Φ(x)`, exact.
    Erf,
    /// The tanh approximation.
    Tanh,
    /// `x · σ(1.702 x)`, as in CLIP and the ERNIE vision tower.
    Quick,
}

/// Bytes that a parameter occupies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WeightBytes {
    /// Read where [`RawTensor`](crate::RawTensor) holds them.
    pub shared: u64,
    /// In a copy that the backend made.
    pub owned: u64,
}

/// What a budget for routed experts has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExpertUse {
    /// Bytes that experts may take in memory.
    pub budget_bytes: u64,
    /// Bytes they take now.
    pub resident_bytes: u64,
    /// Experts that rows went to, each once for a pass of its layer.
    pub uses: u64,
    /// Those of them that were in memory when their layer began.
    pub hits: u64,
    /// Those of the hits that were read because their layer was about to begin.
    pub foreseen: u64,
    /// Bytes read, for uses and for guesses.
    pub read_bytes: u64,
    /// Nanoseconds for which nothing could be computed before an expert was read.
    pub waited_ns: u64,
}

impl ExpertUse {
    /// What was done since it was `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            uses: self.uses - earlier.uses,
            hits: self.hits - earlier.hits,
            foreseen: self.foreseen - earlier.foreseen,
            read_bytes: self.read_bytes - earlier.read_bytes,
            waited_ns: self.waited_ns - earlier.waited_ns,
            ..*self
        }
    }

    /// Part of the uses that found their expert in memory; all of none.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        if self.uses == 0 { 1.0 } else { self.hits as f64 / self.uses as f64 }
    }
}
