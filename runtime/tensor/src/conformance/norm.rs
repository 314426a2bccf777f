//! Norms.

use super::inputs::{Rows, Stored, rows, vector};
use super::{Case, Suite, Values};
use crate::{Backend, Result};

pub(super) async fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for (n, cols) in [(1, 1), (1, 5), (9, 33), (3, 1000), (300, 64)] {
        for scale in [1.0, 1e-3, 1e4] {
            // At scale 1e-3 this `eps` is no small part of the mean of squares.
            let (x, w, eps) = (rows(n, cols).times(scale), vector(cols), 1e-5);
            suite.agree(RmsNorm { x, w: w.clone(), eps }).await;
            suite.agree(AddRmsNorm { x, y: x.seed(9), w: w.clone(), eps }).await;
            suite.agree(LayerNorm { x, w: w.clone(), bias: w.seed(4), eps }).await;
        }
    }
    suite.refuse(RmsNorm { x: rows(2, 8), w: vector(7), eps: 1e-5 }).await;
    suite.refuse(LayerNorm { x: rows(2, 8), w: vector(7), bias: vector(8), eps: 1e-5 }).await;
    suite.refuse(LayerNorm { x: rows(2, 8), w: vector(8), bias: vector(7), eps: 1e-5 }).await;
}

#[derive(Debug)]
struct RmsNorm {
    x: Rows,
    w: Stored,
    eps: f32,
}

impl Case for RmsNorm {
    const OPS: &'static [&'static str] = &["rms_norm"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.rms_norm(&self.x.on(b)?, &self.w.on(b)?, self.eps)?).await?])
    }
}

#[derive(Debug)]
struct LayerNorm {
    x: Rows,
    w: Stored,
    bias: Stored,
    eps: f32,
}

impl Case for LayerNorm {
    const OPS: &'static [&'static str] = &["layer_norm"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let y = b.layer_norm(&self.x.on(b)?, &self.w.on(b)?, &self.bias.on(b)?, self.eps)?;
        Ok(vec![Values::rows(b, &y).await?])
    }
}

#[derive(Debug)]
struct AddRmsNorm {
    x: Rows,
    y: Rows,
    w: Stored,
    eps: f32,
}

impl Case for AddRmsNorm {
    const OPS: &'static [&'static str] = &["add_rms_norm"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let (sum, normed) = b.add_rms_norm(&self.x.on(b)?, &self.y.on(b)?, &self.w.on(b)?, self.eps)?;
        Ok(vec![Values::rows(b, &sum).await?, Values::rows(b, &normed).await?])
    }
}
