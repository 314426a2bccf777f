//! Position ids and the rotary angles they turn into: host arithmetic, no device.

use crate::config::{RopeKind, TextConfig};

/// A run of prompt tokens that shares one rule for positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// Text tokens, the picture delimiters among them.
    Text(usize),
    /// The placeholder tokens of one picture or video, on its merged grid.
    Visual {
        /// Frame pairs; 1 for a picture.
        frames: usize,
        /// Rows of merged patches.
        rows: usize,
        /// Columns of merged patches.
        cols: usize,
    },
}

impl Span {
    /// The placeholder tokens of a patch grid `[t, h, w]`.
    #[must_use]
    pub fn visual(grid_thw: [u32; 3], spatial_merge_size: usize, temporal_merge_size: usize) -> Self {
        let [t, h, w] = grid_thw.map(|n| n as usize);
        Self::Visual {
            frames: (t / temporal_merge_size).max(1),
            rows: h / spatial_merge_size,
            cols: w / spatial_merge_size,
        }
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        match *self {
            Self::Text(n) => n,
            // Grids come from files; an absurd one has more tokens than any prompt.
            Self::Visual { frames, rows, cols } => frames.saturating_mul(rows).saturating_mul(cols),
        }
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Three-axis positions of a token sequence, and where the next token goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// `(time, height, width)` of each token.
    pub ids: Vec<[u32; 3]>,
    /// Position of the next text token on all axes.
    pub next: u32,
}

impl Positions {
    /// Walks `spans` from position 0.
    ///
    /// Text advances by one on all axes; a visual run starts at the current position, and the text
    /// after it continues beyond the largest position of the run on any axis.
    /// Source: the original ERNIE 4.5 VL processor (`ernie-4.5-vl` position walk).
    #[must_use]
    pub fn walk(spans: &[Span]) -> Self {
        let mut positions = Self::default();
        for span in spans {
            positions.extend(*span);
        }
        positions
    }

    /// Appends one span.
    pub fn extend(&mut self, span: Span) {
        let start = self.next;
        match span {
            Span::Text(n) => {
                self.ids.extend((start..start + n as u32).map(|p| [p; 3]));
                self.next += n as u32;
            }
            Span::Visual { frames, rows, cols } => {
                for t in 0..frames as u32 {
                    for y in 0..rows as u32 {
                        for x in 0..cols as u32 {
                            self.ids.push([start + t, start + y, start + x]);
                        }
                    }
                }
                self.next += frames.max(rows).max(cols) as u32;
            }
        }
    }
}

/// Turns positions into rotary angles.
#[derive(Debug, Clone)]
pub struct Rope {
    inv_freq: Vec<f32>,
    kind: RopeKind,
}

impl Rope {
    /// The rotary embedding of a text configuration.
    #[must_use]
    pub fn new(config: &TextConfig) -> Self {
        let half = config.head_dim / 2;
        // As the reference: the exponent in f32, the power in f32.
        let inv_freq = (0..half)
            .map(|k| {
                let exponent = (2 * k) as f32 / config.head_dim as f32;
                (1.0 / config.rope_theta.powf(f64::from(exponent))) as f32
            })
            .collect();
        Self { inv_freq, kind: config.rope.clone() }
    }

    /// `cos‖sin` rows `[positions, head_dim]`, for the backend's `rope`.
    #[must_use]
    pub fn cos_sin(&self, positions: &[[u32; 3]]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(positions.len() * self.inv_freq.len() * 2);
        for position in positions {
            let angle = |(k, inv_freq): (usize, &f32)| position[self.axis(k)] as f32 * inv_freq;
            rows.extend(self.inv_freq.iter().enumerate().map(|pair| angle(pair).cos()));
            rows.extend(self.inv_freq.iter().enumerate().map(|pair| angle(pair).sin()));
        }
        rows
    }

    /// Which of `(time, height, width)` turns frequency `k`.
    fn axis(&self, k: usize) -> usize {
        const TIME: usize = 0;
        const HEIGHT: usize = 1;
        const WIDTH: usize = 2;
        match self.kind {
            RopeKind::Interleaved1d => TIME,
            // Height and width alternate over the high frequencies, time takes the low ones.
            RopeKind::InterleavedHwt { hw } if k < hw => HEIGHT + k % 2,
            RopeKind::InterleavedHwt { .. } => TIME,
            RopeKind::HalvesThw { sections: [t, h, _] } => match k {
                k if k < t => TIME,
                k if k < t + h => HEIGHT,
                _ => WIDTH,
            },
        }
    }
}
