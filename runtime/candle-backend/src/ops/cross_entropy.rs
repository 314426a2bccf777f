//! Cross-entropy over a vocabulary.

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::{output, slice, tensor_like, values};
use crate::kernels::cross_entropy as kernel;

/// `Σ weightᵢ · −log p(targetᵢ)`, a scalar; rows of weight 0 are not looked at.
pub(crate) fn cross_entropy(logits: &Tensor, targets: &[u32], weights: &[f32]) -> Result<Tensor> {
    let op = CrossEntropy {
        targets: targets.to_vec(),
        weights: weights.to_vec(),
        keep_gradient: logits.track_op(),
        gradient: Mutex::new(None),
    };
    logits.apply_op1(op)
}

/// Keeps the gradient of the logits from its one pass over them until the backward pass takes it.
struct CrossEntropy {
    targets: Vec<u32>,
    weights: Vec<f32>,
    keep_gradient: bool,
    gradient: Mutex<Option<Vec<f32>>>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (logits, vocab) = (slice(logits, l)?, l.dims()[1]);
        let loss = if self.keep_gradient {
            let (loss, gradient) = kernel::loss_and_gradient(logits, vocab, &self.targets, &self.weights);
            *self.gradient.lock().expect("no holder panics") = Some(gradient);
            loss
        } else {
            kernel::loss(logits, vocab, &self.targets, &self.weights)
        };
        output(vec![loss], ())
    }

    fn bwd(&self, logits: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let scale = values(grad)?[0];
        let kept = self.gradient.lock().expect("no holder panics").take();
        let mut gradient = match kept {
            Some(gradient) => gradient,
            // A second backward pass through the same loss.
            None => {
                kernel::loss_and_gradient(&values(logits)?, logits.dims()[1], &self.targets, &self.weights).1
            }
        };
        if scale != 1.0 {
            crate::kernels::rows::for_chunks(&mut gradient, 1, |_, chunk| {
                chunk.iter_mut().for_each(|g| *g *= scale);
            });
        }
        Ok(Some(tensor_like(gradient, logits)?))
    }
}
