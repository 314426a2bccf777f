//! K blocks: 256 values in groups, whose scales are themselves codes of one scale.
//!
//! Each group is fitted alone, and its scale rounded to a code. Then groups and block take turns: every
//! group looks for better codes beside its own under the block's scale, and the block's scale is the least
//! squares one under all codes.

use super::fit::{self, Codes, Group, Line, OffsetKind};
use super::{as_f16, as_f16_away};

/// Turns of groups and block; later ones gain next to nothing.
const ROUNDS: usize = 3;
/// Scales and minima of Q4_K and Q5_K have six bits.
const MOST_SIX_BITS: f32 = 63.0;

/// The fit of Q4_K and Q5_K: code `q` of group `g` means `d * scales[g] * q - dmin * mins[g]`.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    pub(super) d: f32,
    pub(super) dmin: f32,
    pub(super) scales: [u8; 8],
    pub(super) mins: [u8; 8],
    most: f32,
}

/// The fit of Q6_K: code `q` of group `g` means `d * scales[g] * (q - 32)`.
#[derive(Clone, Copy)]
pub(super) struct Scales {
    pub(super) d: f32,
    pub(super) scales: [i8; 16],
}

/// Part `g` of a block.
fn part<const N: usize>(block: Group<'_, 256>, g: usize) -> Group<'_, N> {
    Group { x: &block.x.as_chunks().0[g], weights: &block.weights.as_chunks().0[g] }
}

/// `x / unit` as the nearest whole number from 0 to `most`; 0 if there is no unit.
fn in_units(x: f32, unit: f32, most: f32) -> f32 {
    if unit == 0.0 { 0.0 } else { (x / unit).round().clamp(0.0, most) }
}

impl Lines {
    pub(super) fn fit(block: Group<'_, 256>, most: f32) -> Self {
        let codes = Codes { least: 0.0, most };
        let alone: [Line; 8] =
            std::array::from_fn(|g| fit::line(part::<32>(block, g), codes, OffsetKind::NotPositive, |x| x));
        let largest = |of: fn(&Line) -> f32| alone.iter().map(of).fold(0.0, f32::max);
        let d = as_f16_away(largest(|line| line.scale) / MOST_SIX_BITS);
        let dmin = as_f16_away(largest(|line| -line.offset) / MOST_SIX_BITS);
        let scales = alone.map(|line| in_units(line.scale, d, MOST_SIX_BITS) as u8);
        let mins = alone.map(|line| in_units(-line.offset, dmin, MOST_SIX_BITS) as u8);
        let mut best = Self { d, dmin, scales, mins, most };
        best.improve_groups(block);
        let mut least_error = best.error(block);
        for _ in 0..ROUNDS {
            let mut next = best;
            next.refit_units(block);
            next.improve_groups(block);
            let error = next.error(block);
            if error.partial_cmp(&least_error) != Some(std::cmp::Ordering::Less) {
                break;
            }
            (best, least_error) = (next, error);
        }
        best
    }

    pub(super) fn codes(&self, x: &[f32; 256]) -> [u8; 256] {
        let mut all = [0; 256];
        for (g, (x, out)) in x.as_chunks().0.iter().zip(all.as_chunks_mut::<32>().0).enumerate() {
            *out = self.line(g).codes(x, self.range()).map(|code| code as u8);
        }
        all
    }

    fn range(&self) -> Codes {
        Codes { least: 0.0, most: self.most }
    }

    /// What the codes of group `g` mean, computed as the decoder does.
    fn line(&self, g: usize) -> Line {
        self.line_of(self.scales[g], self.mins[g])
    }

    fn line_of(&self, scale: u8, min: u8) -> Line {
        Line { scale: self.d * f32::from(scale), offset: -(self.dmin * f32::from(min)) }
    }

    fn error(&self, block: Group<'_, 256>) -> f32 {
        (0..8).map(|g| self.line(g).error(part::<32>(block, g), self.range())).sum()
    }

    /// Moves the scale and the minimum of each group by at most one where that brings it nearer.
    fn improve_groups(&mut self, block: Group<'_, 256>) {
        let beside = |code: u8| code.saturating_sub(1)..=(code + 1).min(MOST_SIX_BITS as u8);
        for g in 0..8 {
            let group = part::<32>(block, g);
            let mut least_error = self.line(g).error(group, self.range());
            let (scales, mins) = (beside(self.scales[g]), beside(self.mins[g]));
            for scale in scales {
                for min in mins.clone() {
                    let error = self.line_of(scale, min).error(group, self.range());
                    if error < least_error {
                        (self.scales[g], self.mins[g], least_error) = (scale, min, error);
                    }
                }
            }
        }
    }

    /// Sets `d` and `dmin` to the least squares of `x = d * a - dmin * b` over all values, where `a` is a
    /// scale times a code and `b` a minimum. They stay as they are where values do not determine them.
    fn refit_units(&mut self, block: Group<'_, 256>) {
        let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0.0f64);
        for g in 0..8 {
            let group = part::<32>(block, g);
            let b = f64::from(self.mins[g]);
            let codes = self.line(g).codes(group.x, self.range());
            for ((&x, &weight), code) in group.x.iter().zip(group.weights).zip(codes) {
                let (x, weight) = (f64::from(x), f64::from(weight));
                let a = f64::from(self.scales[g]) * f64::from(code);
                aa += weight * a * a;
                ab += weight * a * b;
                bb += weight * b * b;
                ax += weight * a * x;
                bx += weight * b * x;
            }
        }
        let determinant = aa * bb - ab * ab;
        if determinant > 1e-9 * aa * bb {
            self.d = as_f16(((ax * bb - bx * ab) / determinant) as f32).max(0.0);
            self.dmin = as_f16(((ax * ab - bx * aa) / determinant) as f32).max(0.0);
        } else if bb == 0.0 && aa > 0.0 {
            self.d = as_f16((ax / aa) as f32).max(0.0);
        }
    }
}

impl Scales {
    const CODES: Codes = Codes { least: -32.0, most: 31.0 };

    pub(super) fn fit(block: Group<'_, 256>) -> Self {
        let alone: [f32; 16] =
            std::array::from_fn(|g| fit::scale(part::<16>(block, g), Self::CODES, |x| x).scale);
        let peak = alone.iter().fold(0.0f32, |peak, &x| if x.abs() > peak.abs() { x } else { peak });
        // The largest scale gets the code of largest magnitude.
        let d = as_f16_away(peak / f32::from(i8::MIN));
        let in_units = |scale: f32| if d == 0.0 { 0 } else { (scale / d).round() as i8 };
        let mut best = Self { d, scales: alone.map(in_units) };
        best.improve_groups(block);
        let mut least_error = best.error(block);
        for _ in 0..ROUNDS {
            let mut next = best;
            next.refit_unit(block);
            next.improve_groups(block);
            let error = next.error(block);
            if error.partial_cmp(&least_error) != Some(std::cmp::Ordering::Less) {
                break;
            }
            (best, least_error) = (next, error);
        }
        best
    }

    /// The codes as they are stored: from 0 to 63.
    pub(super) fn codes(&self, x: &[f32; 256]) -> [u8; 256] {
        let mut all = [0; 256];
        for (g, (x, out)) in x.as_chunks().0.iter().zip(all.as_chunks_mut::<16>().0).enumerate() {
            *out = self.line_of(self.scales[g]).codes(x, Self::CODES).map(|code| (code + 32.0) as u8);
        }
        all
    }

    fn line_of(&self, scale: i8) -> Line {
        Line { scale: self.d * f32::from(scale), offset: 0.0 }
    }

    fn error(&self, block: Group<'_, 256>) -> f32 {
        (0..16).map(|g| self.line_of(self.scales[g]).error(part::<16>(block, g), Self::CODES)).sum()
    }

    fn improve_groups(&mut self, block: Group<'_, 256>) {
        for g in 0..16 {
            let group = part::<16>(block, g);
            let mut least_error = self.line_of(self.scales[g]).error(group, Self::CODES);
            for scale in self.scales[g].saturating_sub(1)..=self.scales[g].saturating_add(1) {
                let error = self.line_of(scale).error(group, Self::CODES);
                if error < least_error {
                    (self.scales[g], least_error) = (scale, error);
                }
            }
        }
    }

    fn refit_unit(&mut self, block: Group<'_, 256>) {
        let (mut aa, mut ax) = (0.0f64, 0.0f64);
        for g in 0..16 {
            let group = part::<16>(block, g);
            let codes = self.line_of(self.scales[g]).codes(group.x, Self::CODES);
            for ((&x, &weight), code) in group.x.iter().zip(group.weights).zip(codes) {
                let a = f64::from(self.scales[g]) * f64::from(code);
                aa += f64::from(weight) * a * a;
                ax += f64::from(weight) * a * f64::from(x);
            }
        }
        if aa > 0.0 {
            self.d = as_f16((ax / aa) as f32);
        }
    }
}
