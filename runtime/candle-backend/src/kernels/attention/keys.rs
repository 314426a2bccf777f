//! Keys and values in the order in which attention reads them.

use half::f16;
use half::slice::HalfFloatSliceExt;
use tensor::{Heads, KvType};

use crate::team;

/// Keys side by side, one in each lane of a vector or two.
pub(crate) const PANEL: usize = 16;
/// Values with one scale in [`KvType::Q8_0`].
const GROUP: usize = 32;
/// New panels from which several threads fill them.
const MANY_PANELS: usize = 4;

/// Keys and values of one sequence, in panels of [`PANEL`] tokens.
///
/// Keys lie feature by feature, `[panels, heads, head_dim, PANEL]`, because scores of neighbouring keys are
/// computed together; values lie token by token, `[panels, heads, PANEL, padded_dim]`.
pub(crate) struct KeysValues {
    heads: Heads,
    n_rows: usize,
    keys: Store,
    values: Store,
}

/// The values of some panels. Tokens that are not there yet are zeros.
enum Store {
    F32(Vec<f32>),
    F16(Vec<f16>),
    Q8_0 { codes: Vec<i8>, scales: Vec<f16> },
}

/// One panel of all heads.
enum PanelMut<'a> {
    F32(&'a mut [f32]),
    F16(&'a mut [f16]),
    Q8_0 { codes: &'a mut [i8], scales: &'a mut [f16] },
}

/// Where the value `feature` of token `lane` and head `head` lies within a panel, and its scale.
#[derive(Clone, Copy)]
enum Order {
    FeatureFirst { head_dim: usize },
    TokenFirst { head_dim: usize },
}

/// What [`KeysValues::panel`] decodes into.
#[derive(Default)]
pub(crate) struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
}

/// One panel of one head.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    /// `[head_dim, PANEL]`
    pub(crate) keys: &'a [f32],
    /// `[PANEL, padded_dim]`
    pub(crate) values: &'a [f32],
}

/// `head_dim`, filled up with zeros to whole vectors.
pub(crate) fn padded_dim(head_dim: usize) -> usize {
    head_dim.next_multiple_of(PANEL)
}

impl KeysValues {
    /// No tokens, and room for `capacity`.
    pub(crate) fn new(heads: Heads, kind: KvType, capacity: usize) -> Self {
        let n_panels = capacity.div_ceil(PANEL);
        let [keys, values] = Self::orders(heads)
            .map(|order| Store::new(kind, n_panels * order.len(heads), order.n_scales(heads) * n_panels));
        Self { heads, n_rows: 0, keys, values }
    }

    /// The tokens of `k` and `v`, `[n, kv_width]`.
    pub(crate) fn of_rows(heads: Heads, k: &[f32], v: &[f32]) -> Self {
        let mut all = Self::new(heads, KvType::F32, k.len() / heads.kv_width());
        all.append(k, v);
        all
    }

    fn orders(heads: Heads) -> [Order; 2] {
        let head_dim = heads.head_dim;
        [Order::FeatureFirst { head_dim }, Order::TokenFirst { head_dim }]
    }

    /// Number of tokens.
    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Appends the tokens of `k` and `v`, `[n, kv_width]`.
    pub(crate) fn append(&mut self, k: &[f32], v: &[f32]) {
        let (heads, width, start) = (self.heads, self.heads.kv_width(), self.n_rows);
        let n = k.len() / width;
        let (first, end) = (start / PANEL, (start + n).div_ceil(PANEL));
        let [key_order, value_order] = Self::orders(heads);
        self.keys.resize(end, key_order, heads);
        self.values.resize(end, value_order, heads);
        self.n_rows = start + n;
        let fill = |i: usize, (mut keys, mut values): (PanelMut<'_>, PanelMut<'_>)| {
            let panel = first + i;
            for token in (panel * PANEL).max(start)..((panel + 1) * PANEL).min(start + n) {
                let row = (token - start) * width..(token - start + 1) * width;
                keys.put(key_order, token % PANEL, &k[row.clone()]);
                values.put(value_order, token % PANEL, &v[row]);
            }
        };
        let panels =
            self.keys.panels(first, key_order, heads).zip(self.values.panels(first, value_order, heads));
        match end - first >= MANY_PANELS {
            true => team::for_each_of(panels, fill),
            false => panels.enumerate().for_each(|(i, panel)| fill(i, panel)),
        }
    }

    /// All keys and all values, `[n_rows, kv_width]` each.
    pub(crate) fn read(&self) -> [Vec<f32>; 2] {
        let (heads, d) = (self.heads, self.heads.head_dim);
        let mut scratch = Scratch::default();
        let mut rows = [(); 2].map(|()| vec![0.0; self.n_rows * heads.kv_width()]);
        for panel in 0..self.n_rows.div_ceil(PANEL) {
            for head in 0..heads.n_kv_heads {
                let stored = self.panel(panel, head, &mut scratch);
                for token in panel * PANEL..((panel + 1) * PANEL).min(self.n_rows) {
                    let (lane, at) = (token % PANEL, token * heads.kv_width() + head * d);
                    for i in 0..d {
                        rows[0][at + i] = stored.keys[i * PANEL + lane];
                    }
                    rows[1][at..at + d].copy_from_slice(&stored.values[lane * padded_dim(d)..][..d]);
                }
            }
        }
        rows
    }

    /// Forgets all tokens from `n_rows` on.
    pub(crate) fn truncate(&mut self, n_rows: usize) {
        if n_rows >= self.n_rows {
            return;
        }
        self.n_rows = n_rows;
        let (heads, n_panels) = (self.heads, n_rows.div_ceil(PANEL));
        let zeros = vec![0.0; heads.kv_width()];
        for (store, order) in [&mut self.keys, &mut self.values].into_iter().zip(Self::orders(heads)) {
            store.resize(n_panels, order, heads);
            // What is hidden is multiplied by zero, which does not undo a value that is not finite.
            if !n_rows.is_multiple_of(PANEL) {
                let mut last = store.panels(n_panels - 1, order, heads).next().expect("it has rows");
                (n_rows % PANEL..PANEL).for_each(|lane| last.put(order, lane, &zeros));
            }
        }
    }

    /// Panel `panel` of head `head`, decoded into `scratch` if it is not stored as it is computed with.
    #[inline(always)]
    pub(crate) fn panel<'a>(&'a self, panel: usize, head: usize, scratch: &'a mut Scratch) -> Panel<'a> {
        let [key_order, value_order] = Self::orders(self.heads);
        let at = panel * self.heads.n_kv_heads + head;
        Panel {
            keys: self.keys.decode(at, key_order, &mut scratch.keys),
            values: self.values.decode(at, value_order, &mut scratch.values),
        }
    }
}

impl Order {
    /// Values of one panel of one head.
    fn head_len(self) -> usize {
        match self {
            Self::FeatureFirst { head_dim } => head_dim * PANEL,
            Self::TokenFirst { head_dim } => padded_dim(head_dim) * PANEL,
        }
    }

    fn n_groups(self) -> usize {
        match self {
            Self::FeatureFirst { head_dim } | Self::TokenFirst { head_dim } => head_dim.div_ceil(GROUP),
        }
    }

    /// Values of one panel of all heads.
    fn len(self, heads: Heads) -> usize {
        self.head_len() * heads.n_kv_heads
    }

    /// Scales of one panel of all heads.
    fn n_scales(self, heads: Heads) -> usize {
        self.n_groups() * PANEL * heads.n_kv_heads
    }

    /// Place of a value within a panel of one head.
    #[inline(always)]
    fn at(self, lane: usize, feature: usize) -> usize {
        match self {
            Self::FeatureFirst { .. } => feature * PANEL + lane,
            Self::TokenFirst { head_dim } => lane * padded_dim(head_dim) + feature,
        }
    }

    /// Place of a scale within a panel of one head.
    #[inline(always)]
    fn scale_at(self, lane: usize, group: usize) -> usize {
        match self {
            Self::FeatureFirst { .. } => group * PANEL + lane,
            Self::TokenFirst { .. } => lane * self.n_groups() + group,
        }
    }
}

impl Store {
    fn new(kind: KvType, capacity: usize, n_scales: usize) -> Self {
        match kind {
            KvType::F32 => Self::F32(Vec::with_capacity(capacity)),
            KvType::F16 => Self::F16(Vec::with_capacity(capacity)),
            KvType::Q8_0 => {
                Self::Q8_0 { codes: Vec::with_capacity(capacity), scales: Vec::with_capacity(n_scales) }
            }
        }
    }

    fn resize(&mut self, n_panels: usize, order: Order, heads: Heads) {
        let n = n_panels * order.len(heads);
        match self {
            Self::F32(values) => values.resize(n, 0.0),
            Self::F16(values) => values.resize(n, f16::ZERO),
            Self::Q8_0 { codes, scales } => {
                codes.resize(n, 0);
                scales.resize(n_panels * order.n_scales(heads), f16::ZERO);
            }
        }
    }

    /// The panels from `first` on.
    fn panels(
        &mut self,
        first: usize,
        order: Order,
        heads: Heads,
    ) -> Box<dyn Iterator<Item = PanelMut<'_>> + '_> {
        let (n, n_scales) = (order.len(heads), order.n_scales(heads));
        match self {
            Self::F32(values) => Box::new(values[first * n..].chunks_exact_mut(n).map(PanelMut::F32)),
            Self::F16(values) => Box::new(values[first * n..].chunks_exact_mut(n).map(PanelMut::F16)),
            Self::Q8_0 { codes, scales } => {
                let scales = scales[first * n_scales..].chunks_exact_mut(n_scales);
                let codes = codes[first * n..].chunks_exact_mut(n);
                Box::new(codes.zip(scales).map(|(codes, scales)| PanelMut::Q8_0 { codes, scales }))
            }
        }
    }

    /// Panel and head number `at`.
    #[inline(always)]
    fn decode<'a>(&'a self, at: usize, order: Order, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let n = order.head_len();
        match self {
            Self::F32(values) => &values[at * n..][..n],
            Self::F16(values) => {
                scratch.resize(n, 0.0);
                ::kernels::widen_f16(&values[at * n..][..n], scratch);
                scratch
            }
            Self::Q8_0 { codes, scales } => {
                scratch.resize(n, 0.0);
                let n_scales = order.n_groups() * PANEL;
                dequantize(&codes[at * n..][..n], &scales[at * n_scales..][..n_scales], order, scratch);
                scratch
            }
        }
    }
}

/// Codes of one panel of one head times their scales.
#[inline(always)]
fn dequantize(codes: &[i8], scales: &[f16], order: Order, out: &mut [f32]) {
    let mut decoded = [0.0; PANEL];
    match order {
        Order::FeatureFirst { .. } => {
            let features = out.as_chunks_mut::<PANEL>().0.chunks_mut(GROUP);
            let codes = codes.as_chunks::<PANEL>().0.chunks(GROUP);
            for ((out, codes), scales) in features.zip(codes).zip(scales.chunks_exact(PANEL)) {
                scales.convert_to_f32_slice(&mut decoded);
                for (out, codes) in out.iter_mut().zip(codes) {
                    for i in 0..PANEL {
                        out[i] = decoded[i] * f32::from(codes[i]);
                    }
                }
            }
        }
        Order::TokenFirst { head_dim } => {
            let (dim, n_groups) = (padded_dim(head_dim), order.n_groups());
            let rows = out.chunks_exact_mut(dim).zip(codes.chunks_exact(dim));
            for ((out, codes), scales) in rows.zip(scales.chunks_exact(n_groups)) {
                // A last group that is short ends in padding, whose codes are zero.
                for ((out, codes), scale) in out.chunks_mut(GROUP).zip(codes.chunks(GROUP)).zip(scales) {
                    let scale = scale.to_f32();
                    out.iter_mut().zip(codes).for_each(|(out, &code)| *out = scale * f32::from(code));
                }
            }
        }
    }
}

impl PanelMut<'_> {
    /// Writes token `lane`: `row` is `[heads, head_dim]`.
    fn put(&mut self, order: Order, lane: usize, row: &[f32]) {
        let (Order::FeatureFirst { head_dim } | Order::TokenFirst { head_dim }) = order;
        let n = order.head_len();
        match self {
            Self::F32(values) => {
                for (values, row) in values.chunks_exact_mut(n).zip(row.chunks_exact(head_dim)) {
                    scatter(values, order, lane, row);
                }
            }
            Self::F16(values) => {
                let mut halves = vec![f16::ZERO; row.len()];
                halves.convert_from_f32_slice(row);
                for (values, row) in values.chunks_exact_mut(n).zip(halves.chunks_exact(head_dim)) {
                    scatter(values, order, lane, row);
                }
            }
            Self::Q8_0 { codes, scales } => {
                let n_scales = order.n_groups() * PANEL;
                let heads = codes.chunks_exact_mut(n).zip(scales.chunks_exact_mut(n_scales));
                for ((codes, scales), row) in heads.zip(row.chunks_exact(head_dim)) {
                    for (group, values) in row.chunks(GROUP).enumerate() {
                        let (scale, rounded) = quantize(values);
                        scales[order.scale_at(lane, group)] = scale;
                        for (i, &code) in rounded[..values.len()].iter().enumerate() {
                            codes[order.at(lane, group * GROUP + i)] = code;
                        }
                    }
                }
            }
        }
    }
}

/// Writes one token of one head.
#[inline(always)]
fn scatter<T: Copy>(panel: &mut [T], order: Order, lane: usize, row: &[T]) {
    match order {
        Order::FeatureFirst { .. } => {
            panel
                .as_chunks_mut::<PANEL>()
                .0
                .iter_mut()
                .zip(row)
                .for_each(|(lanes, &value)| lanes[lane] = value);
        }
        Order::TokenFirst { .. } => panel[order.at(lane, 0)..][..row.len()].copy_from_slice(row),
    }
}

/// Rounds a group to signed bytes by the stored, rounded scale. A group with a value that is not finite gets
/// a scale that is not.
fn quantize(values: &[f32]) -> (f16, [i8; GROUP]) {
    let largest = values
        .iter()
        .fold(0.0f32, |largest, v| if v.abs() > largest || v.is_nan() { v.abs() } else { largest });
    let scale = f16::from_f32(largest / 127.0);
    let inverse = match scale.to_f32() {
        0.0 => 0.0,
        scale => 1.0 / scale,
    };
    let mut codes = [0; GROUP];
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (value * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    // Zero times infinity is no number, and neither is its product with any code.
    let scale = if largest.is_finite() { scale } else { f16::NAN };
    (scale, codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: Heads = Heads { n_heads: 4, n_kv_heads: 2, head_dim: 40 };

    fn rows(seed: usize, n: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 2_654_435_761 + seed * 40_503) % 1021) as f32 / 510.5 - 1.0;
        (0..n * HEADS.kv_width()).map(value).collect()
    }

    /// What comes back of the keys and values of `token`.
    fn read(all: &KeysValues, token: usize) -> [Vec<f32>; 2] {
        let mut scratch = Scratch::default();
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for head in 0..HEADS.n_kv_heads {
            let panel = all.panel(token / PANEL, head, &mut scratch);
            keys.extend((0..HEADS.head_dim).map(|i| panel.keys[i * PANEL + token % PANEL]));
            values.extend(&panel.values[token % PANEL * padded_dim(HEADS.head_dim)..][..HEADS.head_dim]);
        }
        [keys, values]
    }

    #[test]
    fn what_is_appended_comes_back_as_near_as_its_type_allows() {
        for (kind, bound) in [(KvType::F32, 0.0), (KvType::F16, 5e-4), (KvType::Q8_0, 5e-3)] {
            let mut all = KeysValues::new(HEADS, kind, 10);
            let (k, v) = (rows(1, 200), rows(2, 200));
            for (start, end) in [(0, 1), (1, 15), (15, 40), (40, 200)] {
                let range = start * HEADS.kv_width()..end * HEADS.kv_width();
                all.append(&k[range.clone()], &v[range]);
            }
            assert_eq!(all.n_rows(), 200);
            for token in 0..200 {
                for (read, rows) in read(&all, token).iter().zip([&k, &v]) {
                    let row = &rows[token * HEADS.kv_width()..][..HEADS.kv_width()];
                    assert!(read.iter().zip(row).all(|(a, b)| (a - b).abs() <= bound), "{kind:?} {token}");
                }
            }
        }
    }

    #[test]
    fn forgotten_tokens_are_zeros() {
        for kind in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let mut all = KeysValues::new(HEADS, kind, 0);
            all.append(&rows(1, 30), &vec![f32::NAN; 30 * HEADS.kv_width()]);
            assert!(read(&all, 20)[1].iter().all(|v| v.is_nan()), "{kind:?}");
            all.truncate(18);
            assert_eq!(all.n_rows(), 18);
            for token in 18..32 {
                assert!(read(&all, token).concat().iter().all(|&v| v == 0.0), "{kind:?} {token}");
            }
        }
    }
}
