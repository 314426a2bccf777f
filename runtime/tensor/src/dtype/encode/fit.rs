//! The scale, or the scale and the offset, with which the codes of one group tell its values best.
//!
//! Every trial divides the range of the values a little finer or coarser. The codes it gives have one
//! least-squares scale; that is rounded as it will be stored, and judged by the error of what would then be
//! decoded. So a trial can only improve on plain rounding.

/// How far the search goes around the plain division of the range, in codes.
const TRIALS: std::ops::RangeInclusive<i8> = -8..=4;
const TRIAL_STEP: f32 = 0.5;

/// Values, and how much the squared error of each counts.
#[derive(Clone, Copy)]
pub(super) struct Group<'a, const N: usize> {
    pub(super) x: &'a [f32; N],
    pub(super) weights: &'a [f32; N],
}

/// The whole numbers that a format can store, as floats.
#[derive(Clone, Copy)]
pub(super) struct Codes {
    pub(super) least: f32,
    pub(super) most: f32,
}

/// A code `q` means `scale * q + offset`.
#[derive(Clone, Copy, Default)]
pub(super) struct Line {
    pub(super) scale: f32,
    pub(super) offset: f32,
}

/// What a format can store as an offset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OffsetKind {
    Any,
    /// At most zero: K blocks subtract a minimum that has no sign.
    NotPositive,
}

/// To the nearest whole number, for numbers below 2²². Unlike `f32::round` it becomes vector instructions
/// on every processor.
fn round(x: f32) -> f32 {
    const ULP_IS_ONE: f32 = 12_582_912.0;
    (x + ULP_IS_ONE) - ULP_IS_ONE
}

impl Codes {
    /// The code nearest to `x`; the least one if `x` is no number.
    fn nearest(self, x: f32) -> f32 {
        round(x.max(self.least).min(self.most))
    }
}

impl Line {
    fn inverse(self) -> f32 {
        if self.scale == 0.0 { 0.0 } else { 1.0 / self.scale }
    }

    /// The best code of every value.
    pub(super) fn codes<const N: usize>(self, x: &[f32; N], codes: Codes) -> [f32; N] {
        let inverse = self.inverse();
        x.map(|x| codes.nearest((x - self.offset) * inverse))
    }

    /// The weighted squared error of the group as it would be decoded.
    pub(super) fn error<const N: usize>(self, group: Group<'_, N>, codes: Codes) -> f32 {
        let inverse = self.inverse();
        sum_by(group, |x, weight| {
            let code = codes.nearest((x - self.offset) * inverse);
            let error = x - (self.scale * code + self.offset);
            weight * error * error
        })
    }
}

/// A sum in eight lanes, which a compiler may not make of a plain one.
fn sum_by<const N: usize>(group: Group<'_, N>, term: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; 8];
    for (x, weights) in group.x.as_chunks::<8>().0.iter().zip(group.weights.as_chunks::<8>().0) {
        for ((lane, &x), &weight) in lanes.iter_mut().zip(x).zip(weights) {
            *lane += term(x, weight);
        }
    }
    lanes.iter().sum()
}

/// The best line through zero. `stored` says what becomes of a scale when it is written.
pub(super) fn scale<const N: usize>(group: Group<'_, N>, codes: Codes, stored: impl Fn(f32) -> f32) -> Line {
    // The largest value gets the largest code, which is on the negative side where there is one more.
    let peak = group.x.iter().fold(0.0f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak });
    if peak == 0.0 {
        return Line::default();
    }
    let through = |scale| Line { scale, offset: 0.0 };
    let mut best = through(stored(peak / codes.least));
    let mut least_error = best.error(group, codes);
    let ends = [codes.least, codes.most];
    let ends = if codes.most == -codes.least { &ends[..1] } else { &ends };
    for end in ends {
        for trial in TRIALS {
            let trial = end + f32::from(trial) * TRIAL_STEP * end.signum();
            let inverse = trial / peak;
            let code = |x: f32| codes.nearest(x * inverse);
            let xq = sum_by(group, |x, weight| weight * x * code(x));
            let qq = sum_by(group, |x, weight| weight * code(x) * code(x));
            let line = through(stored(xq / qq));
            let error = line.error(group, codes);
            if error < least_error {
                (best, least_error) = (line, error);
            }
        }
    }
    best
}

/// The best line of codes from zero up. `stored` says what becomes of a scale or offset when it is written.
pub(super) fn line<const N: usize>(
    group: Group<'_, N>,
    codes: Codes,
    kind: OffsetKind,
    stored: impl Fn(f32) -> f32,
) -> Line {
    let (mut low, mut high) = group.x.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    if kind == OffsetKind::NotPositive {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    let as_stored = |line: Line| Line { scale: stored(line.scale), offset: stored(line.offset) };
    let mut best = as_stored(Line { scale: (high - low) / codes.most, offset: low });
    let mut least_error = best.error(group, codes);
    for trial in TRIALS {
        let inverse = (codes.most + f32::from(trial) * TRIAL_STEP) / (high - low);
        let line = as_stored(least_squares(group, codes, low, inverse, kind));
        let error = line.error(group, codes);
        if error < least_error {
            (best, least_error) = (line, error);
        }
    }
    best
}

/// The line of least squares for the codes that `(x - low) * inverse` rounds to.
fn least_squares<const N: usize>(
    group: Group<'_, N>,
    codes: Codes,
    low: f32,
    inverse: f32,
    kind: OffsetKind,
) -> Line {
    // Values count from `low`, so that a large common offset costs no precision.
    let code = |x: f32| codes.nearest((x - low) * inverse);
    let sum = |term: fn(f32, f32) -> f32| sum_by(group, |x, weight| weight * term(x - low, code(x)));
    let (w, q, qq) = (sum(|_, _| 1.0), sum(|_, q| q), sum(|_, q| q * q));
    let (x, xq) = (sum(|x, _| x), sum(|x, q| x * q));
    let determinant = w * qq - q * q;
    let line = Line { scale: (w * xq - q * x) / determinant, offset: low + (qq * x - q * xq) / determinant };
    if kind == OffsetKind::Any || line.offset <= 0.0 {
        return line;
    }
    Line { scale: (xq + low * q) / qq, offset: 0.0 }
}
