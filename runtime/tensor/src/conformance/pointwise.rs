//! Sums, gates, activations and rotations.

use super::inputs::{Noise, Rows, rows};
use super::{Case, EXACT, Suite, Values};
use crate::{Backend, Gelu, RawTensor, Result, RopePairs};

pub(super) async fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for (n, cols) in [(1, 1), (1, 13), (16, 1), (7, 33), (150, 129)] {
        let (x, y) = (rows(n, cols), rows(n, cols).seed(5));
        suite.agree(Add { x, y }).await;
        for scale in [0.01, 3.0, 40.0] {
            suite.agree(SwiGlu { gate: x.times(scale), up: y }).await;
            for kind in [Gelu::Erf, Gelu::Tanh, Gelu::Quick] {
                suite.agree(GeluOf { x: x.times(scale), kind }).await;
            }
        }
        for gpas_gate in [0.0, 0.3, -2.0, 9.0] {
            suite.agree(Gpas { x, gpas_gate: vec![gpas_gate] }).await;
        }
    }
    for y in [rows(2, 8), rows(3, 7), rows(7, 3)] {
        suite.refuse(Add { x: rows(3, 8), y }).await;
        suite.refuse(SwiGlu { gate: rows(3, 8), up: y }).await;
    }
    suite.refuse(Gpas { x: rows(2, 3), gpas_gate: vec![0.1, 0.2] }).await;

    for pairs in [RopePairs::Interleaved, RopePairs::Halves] {
        for (n, n_heads, head_dim) in [(1, 1, 2), (5, 3, 6), (9, 2, 128), (140, 4, 20)] {
            suite.agree(Rope { x: rows(n, n_heads * head_dim), angles: (n, head_dim), pairs }).await;
        }
        for angles in [(2, 8), (3, 7), (3, 10)] {
            suite.refuse(Rope { x: rows(3, 16), angles, pairs }).await;
        }
    }
}

#[derive(Debug)]
struct Add {
    x: Rows,
    y: Rows,
}

impl Case for Add {
    const OPS: &'static [&'static str] = &["add"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.add(&self.x.on(b)?, &self.y.on(b)?)?).await?])
    }
}

#[derive(Debug)]
struct SwiGlu {
    gate: Rows,
    up: Rows,
}

impl Case for SwiGlu {
    const OPS: &'static [&'static str] = &["swiglu"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.swiglu(&self.gate.on(b)?, &self.up.on(b)?)?).await?])
    }
}

#[derive(Debug)]
struct GeluOf {
    x: Rows,
    kind: Gelu,
}

impl Case for GeluOf {
    const OPS: &'static [&'static str] = &["gelu"];
    /// The tanh approximation is within 1e-7 of the exact form.
    const BOUND: f64 = 1e-10;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.gelu(&self.x.on(b)?, self.kind)?).await?])
    }
}

#[derive(Debug)]
struct Gpas {
    x: Rows,
    gpas_gate: Vec<f32>,
}

impl Case for Gpas {
    const OPS: &'static [&'static str] = &["gpas"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let gpas_gate =
            b.weight(RawTensor::from_f32("gpas_gate", &[self.gpas_gate.len()], &self.gpas_gate))?;
        Ok(vec![Values::rows(b, &b.gpas(&self.x.on(b)?, &gpas_gate)?).await?])
    }
}

#[derive(Debug)]
struct Rope {
    x: Rows,
    /// Rows and `head_dim`.
    angles: (usize, usize),
    pairs: RopePairs,
}

impl Case for Rope {
    const OPS: &'static [&'static str] = &["rope"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let (n, head_dim) = self.angles;
        let mut noise = Noise::new(11);
        let mut cos_sin = vec![0.0; n * head_dim];
        for row in cos_sin.chunks_exact_mut(head_dim) {
            let (cos, sin) = row.split_at_mut(head_dim / 2);
            for (cos, sin) in cos.iter_mut().zip(sin) {
                (*sin, *cos) = (noise.value() * std::f32::consts::PI).sin_cos();
            }
        }
        Ok(vec![Values::rows(b, &b.rope(&self.x.on(b)?, &b.tensor(&cos_sin, head_dim)?, self.pairs)?).await?])
    }
}
