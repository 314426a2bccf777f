//! Moving values to the device, about it and back.

use super::inputs::{Rows, Stored, matrix, rows};
use super::{Case, EXACT, Suite, Values};
use crate::{Backend, DType, RawTensor, Result, SharedBytes};

pub(super) async fn cases<B: Backend>(suite: &mut Suite<'_, B>) {
    for (n, cols) in [(1, 1), (1, 7), (9, 1), (5, 33), (130, 64)] {
        suite.agree(Upload { x: rows(n, cols), cols }).await;
    }
    suite.refuse(Upload { x: rows(1, 7), cols: 3 }).await;
    suite.refuse(Upload { x: rows(1, 7), cols: 0 }).await;
    for ids in [vec![0], vec![7, 0, 7, u32::MAX], (0..300).rev().collect()] {
        suite.agree(Indices { ids }).await;
    }
    for dtype in DType::ALL {
        let block = dtype.block().values;
        for (n, cols) in [(1, block), (2, 2 * block), (37, block), (3, 512)] {
            for offset in [0, 1] {
                suite.agree(Decode { table: matrix(dtype, n, cols).offset(offset) }).await;
            }
        }
        suite.agree(Embed { table: matrix(dtype, 11, 512), ids: vec![10, 0, 3, 3, 10] }).await;
    }
    suite.agree(Embed { table: matrix(DType::BF16, 9, 7), ids: vec![8] }).await;
    suite.agree(Embed { table: matrix(DType::F32, 1, 5), ids: vec![0, 0] }).await;
    suite.refuse(Embed { table: matrix(DType::F32, 4, 5), ids: vec![1, 4] }).await;
    suite.refuse(Embed { table: matrix(DType::Q8_0, 4, 32), ids: vec![4] }).await;
    suite.refuse(Damaged { n_bytes: 30 }).await;
    suite.refuse(Damaged { n_bytes: 34 }).await;

    for (x, list) in [(rows(1, 1), vec![0]), (rows(9, 33), vec![8, 0, 8, 4]), (rows(3, 5), vec![1; 20])] {
        suite.agree(Gather { x, rows: list }).await;
    }
    suite.refuse(Gather { x: rows(3, 4), rows: vec![0, 3] }).await;
    for (x, list) in [(rows(1, 1), vec![0]), (rows(9, 33), vec![8, 0, 4]), (rows(4, 16), vec![3, 2, 1, 0])] {
        let src = rows(list.len(), x.cols).seed(7);
        suite.agree(Scatter { x, rows: list, src }).await;
    }
    suite.refuse(Scatter { x: rows(3, 4), rows: vec![3], src: rows(1, 4) }).await;
    suite.refuse(Scatter { x: rows(3, 4), rows: vec![0, 1], src: rows(1, 4) }).await;
    suite.refuse(Scatter { x: rows(3, 4), rows: vec![0], src: rows(1, 5) }).await;
    for (x, cols) in [(rows(8, 6), 24), (rows(2, 24), 6), (rows(3, 5), 1), (rows(3, 5), 15)] {
        suite.agree(Reshape { x, cols }).await;
    }
    suite.refuse(Reshape { x: rows(3, 5), cols: 4 }).await;
    suite.refuse(Reshape { x: rows(3, 5), cols: 0 }).await;

    for (vocab, k) in [(1, 1), (40, 1), (40, 7), (40, 40), (40, 100), (1003, 20), (40, 0)] {
        suite.agree(TopK { logits: rows(1, vocab), k }).await;
        suite.agree(TopK { logits: rows(1, vocab).rounded_to(0.25), k }).await;
    }
    suite.refuse(TopK { logits: rows(2, 9), k: 1 }).await;
    for (n, cols) in [(1, 1), (1, 40), (5, 33), (3, 1003)] {
        suite.agree(Argmax { logits: rows(n, cols) }).await;
        suite.agree(Argmax { logits: rows(n, cols).rounded_to(0.5) }).await;
    }
}

#[derive(Debug)]
struct Upload {
    x: Rows,
    cols: usize,
}

impl Case for Upload {
    const OPS: &'static [&'static str] = &["tensor", "shape", "read"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.tensor(&self.x.values(), self.cols)?).await?])
    }
}

#[derive(Debug)]
struct Indices {
    ids: Vec<u32>,
}

impl Case for Indices {
    const OPS: &'static [&'static str] = &["ids", "read_ids"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::indices(b, &b.ids(&self.ids)?).await?])
    }
}

/// All values of a parameter.
#[derive(Debug)]
struct Decode {
    table: Stored,
}

impl Case for Decode {
    const OPS: &'static [&'static str] = &["weight", "embed"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let raw = self.table.raw()?;
        let ids = b.ids(&(0..raw.rows() as u32).collect::<Vec<_>>())?;
        Ok(vec![Values::rows(b, &b.embed(&b.weight(raw)?, &ids)?).await?])
    }
}

/// A parameter `[2, 32]` in blocks, with another number of bytes than it needs.
#[derive(Debug)]
struct Damaged {
    n_bytes: usize,
}

impl Case for Damaged {
    const OPS: &'static [&'static str] = &["weight"];

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let bytes = SharedBytes::new(vec![0; self.n_bytes]);
        b.weight(RawTensor { name: "the weight".to_owned(), dtype: DType::Q8_0, shape: vec![2, 32], bytes })?;
        Ok(Vec::new())
    }
}

#[derive(Debug)]
struct Embed {
    table: Stored,
    ids: Vec<u32>,
}

impl Case for Embed {
    const OPS: &'static [&'static str] = &["embed"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.embed(&self.table.on(b)?, &b.ids(&self.ids)?)?).await?])
    }
}

#[derive(Debug)]
struct Gather {
    x: Rows,
    rows: Vec<u32>,
}

impl Case for Gather {
    const OPS: &'static [&'static str] = &["gather"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.gather(&self.x.on(b)?, &b.ids(&self.rows)?)?).await?])
    }
}

#[derive(Debug)]
struct Scatter {
    x: Rows,
    rows: Vec<u32>,
    src: Rows,
}

impl Case for Scatter {
    const OPS: &'static [&'static str] = &["scatter"];
    const BOUND: f64 = EXACT;

    /// The rows that were scattered into must keep their values too.
    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let x = self.x.on(b)?;
        let y = b.scatter(&x, &b.ids(&self.rows)?, &self.src.on(b)?)?;
        Ok(vec![Values::rows(b, &y).await?, Values::rows(b, &x).await?])
    }
}

#[derive(Debug)]
struct Reshape {
    x: Rows,
    cols: usize,
}

impl Case for Reshape {
    const OPS: &'static [&'static str] = &["reshape"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::rows(b, &b.reshape(&self.x.on(b)?, self.cols)?).await?])
    }
}

#[derive(Debug)]
struct TopK {
    logits: Rows,
    k: usize,
}

impl Case for TopK {
    const OPS: &'static [&'static str] = &["top_k"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        let candidates = b.top_k(&self.logits.on(b)?, self.k).await?;
        let values: Vec<f32> = candidates.iter().map(|candidate| candidate.logit).collect();
        let ids = candidates.iter().map(|candidate| candidate.id).collect();
        Ok(vec![Values::Indices(ids), Values::Rows { shape: (1, values.len()), values }])
    }
}

#[derive(Debug)]
struct Argmax {
    logits: Rows,
}

impl Case for Argmax {
    const OPS: &'static [&'static str] = &["argmax"];
    const BOUND: f64 = EXACT;

    async fn run<B: Backend>(&self, b: &B) -> Result<Vec<Values>> {
        Ok(vec![Values::indices(b, &b.argmax(&self.logits.on(b)?)?).await?])
    }
}
