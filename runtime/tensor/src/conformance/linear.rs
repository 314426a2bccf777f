//! Linear maps through every storage type.

use super::inputs::{Rows, Stored, matrix, rows, vector};
use super::{Case, Suite, Values};
use crate::{Backend, DType, Result};

pub(super) async fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for dtype in DType::ALL {
        let block = dtype.block().values;
        for (n, out, cols) in [(1, 1, block), (1, 37, 512), (3, 5, 2 * block), (9, 33, 256), (70, 130, block)]
        {
            let (x, w) = (rows(n, cols), matrix(dtype, out, cols));
            suite.agree(Linear { x, w: w.clone(), bias: None }).await;
            suite.agree(Linear { x, w: w.offset(1), bias: Some(vector(out)) }).await;
        }
    }
    for dtype in DType::ALL {
        suite.agree(Occupies { dtype, w: matrix(dtype, 9, 256) }).await;
    }
    // Widths that no vector register divides.
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (n, out, cols) in [(1, 1, 1), (1, 3, 7), (4, 1, 33), (5, 17, 1), (6, 65, 129), (33, 2, 19)] {
            suite
                .agree(Linear { x: rows(n, cols), w: matrix(dtype, out, cols), bias: Some(vector(out)) })
                .await;
        }
    }
    suite.refuse(Linear { x: rows(2, 8), w: matrix(DType::F32, 4, 9), bias: None }).await;
    suite.refuse(Linear { x: rows(2, 64), w: matrix(DType::Q8_0, 64, 32), bias: None }).await;
    suite.refuse(Linear { x: rows(2, 8), w: matrix(DType::F32, 4, 8), bias: Some(vector(5)) }).await;

    for (n, cols) in [(1, 64), (7, 32)] {
        let ws =
            [matrix(DType::F32, 6, cols), matrix(DType::Q8_0, 9, cols).seed(8), matrix(DType::BF16, 1, cols)];
        suite.agree(Linears { x: rows(n, cols), ws }).await;
    }
    for n in [1, 4, 30] {
        let ws = [
            matrix(DType::Q4_K, 6, 256),
            matrix(DType::Q8_0, 70, 256).seed(8),
            matrix(DType::Q4_1, 500, 256).offset(1),
        ];
        suite.agree(Linears { x: rows(n, 256), ws }).await;
    }
    for (n, bias) in [(1, None), (1, Some(vector(70))), (2, None), (40, Some(vector(70)))] {
        let ws = [matrix(DType::F32, 70, 64), matrix(DType::BF16, 70, 64).seed(8)];
        suite.agree(Gated { x: rows(n, 64), ws, bias }).await;
    }
    for dtype in [DType::F32, DType::Q8_0] {
        let ws = [matrix(dtype, 6, 64), matrix(dtype, 6, 32), matrix(dtype, 6, 64)];
        suite.refuse(Linears { x: rows(2, 64), ws }).await;
    }
}

/// A parameter occupies at least its stored bytes, and no more than `f32` needs.
#[derive(Debug)]
struct Occupies {
    dtype: DType,
    w: Stored,
}

impl Case for Occupies {
    const OPS: &'static [&'static str] = &["weight_bytes"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let bytes = b.weight_bytes(&self.w.on(b)?);
        let found = bytes.shared + bytes.owned;
        let [stored, dense] =
            [self.dtype, DType::F32].map(|dtype| dtype.n_bytes(&[9, 256]).unwrap_or(0) as u64);
        Ok(vec![Values::Indices(vec![u32::from(found >= stored), u32::from(found <= dense)])])
    }
}

#[derive(Debug)]
struct Linear {
    x: Rows,
    w: Stored,
    bias: Option<Stored>,
}

impl Case for Linear {
    const OPS: &'static [&'static str] = &["linear"];

    fn rounded_bound(&self) -> Option<f64> {
        self.w.rounded_bound()
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let bias = self.bias.as_ref().map(|bias| bias.on(b)).transpose()?;
        Ok(vec![Values::rows(b, &b.linear(&self.x.on(b)?, &self.w.on(b)?, bias.as_ref())?).await?])
    }
}

/// Three weights at once, the first with a bias.
#[derive(Debug)]
struct Linears {
    x: Rows,
    ws: [Stored; 3],
}

impl Case for Linears {
    const OPS: &'static [&'static str] = &["linears", "linear"];

    fn rounded_bound(&self) -> Option<f64> {
        self.ws.iter().find_map(Stored::rounded_bound)
    }

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let [w0, w1, w2] = [self.ws[0].on(b)?, self.ws[1].on(b)?, self.ws[2].on(b)?];
        let bias = vector(6).on(b)?;
        let ys = b.linears(&self.x.on(b)?, [(&w0, Some(&bias)), (&w1, None), (&w2, None)])?;
        let mut values = Vec::new();
        for y in &ys {
            values.push(Values::rows(b, y).await?);
        }
        Ok(values)
    }
}

/// The first half of an MLP: a backend may compute the products and what becomes of them together.
#[derive(Debug)]
struct Gated {
    x: Rows,
    ws: [Stored; 2],
    bias: Option<Stored>,
}

impl Case for Gated {
    const OPS: &'static [&'static str] = &["gated", "swiglu", "linears"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let [gate_proj, up_proj] = [self.ws[0].on(b)?, self.ws[1].on(b)?];
        let bias = self.bias.as_ref().map(|bias| bias.on(b)).transpose()?;
        let (x, gate, up) = (self.x.on(b)?, (&gate_proj, bias.as_ref()), (&up_proj, None));
        let at_once = b.gated(&x, gate, up)?;
        let [gate, up] = b.linears(&x, [gate, up])?;
        let in_turn = b.swiglu(&gate, &up)?;
        Ok(vec![Values::rows(b, &at_once).await?, Values::rows(b, &in_turn).await?])
    }
}
