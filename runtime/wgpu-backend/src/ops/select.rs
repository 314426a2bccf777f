//! The best logits: chosen on the device, so that a step reads a few of them and not the vocabulary.

use tensor::{Candidate, Result};

use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::recorder::Dispatch;
use crate::tensor_node::View;
use crate::{Ids, Tensor};

/// Logits that one workgroup sorts.
const RUN: usize = 1024;
/// The most that are chosen on the device: each round must leave a quarter of a run.
const MAX_K: usize = RUN / 4;

impl Wgpu {
    pub(crate) fn best_columns(&self, logits: &Tensor) -> Result<Ids> {
        let view = View::from(&self.scratch("argmax", logits.rows)?);
        let params = [logits.rows as u32, logits.cols as u32, 0, 0];
        self.each_sum("argmax", Kernel::Argmax, &[self.view(logits)?, view.clone()], &params, logits.rows)?;
        Ok(Ids { view, len: logits.rows, host: None })
    }

    /// The `k` best logits of one row. Adapters that are programs, and calls for many, have the host choose.
    pub(crate) async fn best_logits(&self, logits: &Tensor, k: usize) -> Result<Vec<Candidate>> {
        let k = k.min(logits.cols);
        if k == 0 {
            return Ok(Vec::new());
        }
        let view = self.view(logits)?;
        if k > MAX_K || self.shared.adapter.barrier_free {
            let bytes = self.shared.read_bytes("top_k", &view, logits.n_bytes()).await?;
            let logits = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
            return Ok(best((0..).zip(logits).map(|(id, logit)| Candidate { id, logit }).collect(), k));
        }
        let (mut bests, mut n) = (self.round(&view, logits.cols, k, true)?, logits.cols);
        n = n.div_ceil(RUN) * k;
        while n > k {
            bests = self.round(&bests, n, k, false)?;
            n = n.div_ceil(RUN) * k;
        }
        let bytes = self.shared.read_bytes("top_k", &bests, k as u64 * 8).await?;
        let pairs = bytes.as_chunks::<8>().0.iter();
        Ok(pairs
            .map(|pair| {
                let [a, b, c, d, id @ ..] = *pair;
                Candidate { id: u32::from_le_bytes(id), logit: logit_of(u32::from_le_bytes([a, b, c, d])) }
            })
            .collect())
    }

    /// The `k` best of each run.
    fn round(&self, input: &View, n: usize, k: usize, first: bool) -> Result<View> {
        let runs = n.div_ceil(RUN);
        let out = View::from(&self.scratch("top_k", runs * k * 2)?);
        let views = match first {
            true => [input.clone(), self.nothing(), out.clone()],
            false => [self.nothing(), input.clone(), out.clone()],
        };
        let dispatch = Dispatch {
            kernel: Kernel::TopK { first },
            views: &views,
            params: &[n as u32, k as u32, 0, 0],
            grid: [runs as u32, 1, 1],
            weight_bytes: 0,
        };
        self.shared.dispatch("top_k", &dispatch)?;
        Ok(out)
    }
}

/// The logit of an order: what `top_k.wgsl` does, undone.
fn logit_of(order: u32) -> f32 {
    f32::from_bits(if order >> 31 == 1 { order & 0x7fff_ffff } else { !order })
}

fn best(mut candidates: Vec<Candidate>, k: usize) -> Vec<Candidate> {
    let order = |a: &Candidate, b: &Candidate| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id));
    if k < candidates.len() {
        candidates.select_nth_unstable_by(k - 1, order);
        candidates.truncate(k);
    }
    candidates.sort_unstable_by(order);
    candidates
}
