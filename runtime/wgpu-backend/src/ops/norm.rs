//! Norms, and the sums that they compute on their way.

use tensor::Result;

use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::tensor_node::{Node, View};
use crate::{Tensor, Weight};

impl Wgpu {
    /// RMS norm. If `x` is a sum that was put off, both are computed at once and `x` has its values then.
    pub(crate) fn normed(&self, x: &Tensor, w: &Weight, eps: f32) -> Result<Tensor> {
        let op = "rms_norm";
        let gain = w.vector(op, x.cols)?;
        let mut addends = Vec::new();
        match x.addends() {
            None => addends.push(self.view(x)?),
            Some((a, b)) => {
                addends.push(self.view(&a)?);
                match b.addends() {
                    None => addends.push(self.view(&b)?),
                    Some((b, c)) => addends.extend([self.view(&b)?, self.view(&c)?]),
                }
            }
        }
        let n_addends = addends.len();
        let (out, normed) = self.output(op, x.rows, x.cols)?;
        let sum = match n_addends {
            1 => View::from(&self.scratch(op, 1)?),
            _ => View::from(&self.scratch(op, x.rows * x.cols)?),
        };
        addends.resize(3, self.nothing());
        addends.extend([gain, sum.clone(), out]);
        let params = [x.rows as u32, x.cols as u32, eps.to_bits(), 0];
        let kernel = Kernel::RmsNorm { addends: n_addends as u32 };
        self.each_sum(op, kernel, &addends, &params, x.rows)?;
        if n_addends > 1 {
            *x.node.borrow_mut() = Node::Stored(sum);
        }
        Ok(normed)
    }

    pub(crate) fn layer_normed(&self, x: &Tensor, w: &Weight, bias: &Weight, eps: f32) -> Result<Tensor> {
        let op = "layer_norm";
        let (w, bias) = (w.vector(op, x.cols)?, bias.vector(op, x.cols)?);
        let (out, normed) = self.output(op, x.rows, x.cols)?;
        let views = [self.view(x)?, w, bias, out];
        let params = [x.rows as u32, x.cols as u32, eps.to_bits(), 0];
        self.each_sum(op, Kernel::LayerNorm, &views, &params, x.rows)?;
        Ok(normed)
    }
}
