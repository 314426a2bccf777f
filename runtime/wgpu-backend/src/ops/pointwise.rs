//! Sums, gates, activations and rotations.

use std::rc::Rc;

use tensor::{Gelu, Result, RopePairs};

use crate::device::Wgpu;
use crate::pipeline::Kernel;
use crate::tensor_node::{Node, Products, View};
use crate::{Tensor, Weight};

impl Wgpu {
    /// `x + y`, put off: it is often normed next. A sum of sums is put off to one level, as `x + (y + z)`.
    pub(crate) fn later_sum(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        if let Some(sum) = self.routed_and_shared(x, y)? {
            return Ok(sum);
        }
        if x.addends().is_some() {
            self.view(x)?;
        }
        if let Some((a, b)) = y.addends()
            && (a.addends().is_some() || b.addends().is_some())
        {
            self.view(y)?;
        }
        Ok(Tensor::new(Node::Sum(x.clone(), y.clone()), x.rows, x.cols))
    }

    /// The values of a sum.
    pub(crate) fn sum(&self, x: &Tensor, y: &Tensor) -> Result<View> {
        self.of_two("add", Kernel::Add, x, y)
    }

    fn of_two(&self, op: &'static str, kernel: Kernel, x: &Tensor, y: &Tensor) -> Result<View> {
        let n = x.rows * x.cols;
        let views = [self.view(x)?, self.view(y)?, View::from(&self.scratch(op, n)?)];
        self.each(op, kernel, &views, &[n as u32, 0, 0, 0], n)?;
        let [_, _, out] = views;
        Ok(out)
    }

    /// `silu(gate) ⊙ up`, put off if it is of two products of one row that were put off themselves: one
    /// kernel computes all of it.
    pub(crate) fn gated(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        if let Some(group) = pair(gate, up) {
            return Ok(Tensor::new(Node::Gated(group), gate.rows, gate.cols));
        }
        let view = self.of_two("swiglu", Kernel::SwiGlu, gate, up)?;
        Ok(Tensor::stored(view, gate.rows, gate.cols))
    }

    pub(crate) fn gelu_of(&self, x: &Tensor, kind: Gelu) -> Result<Tensor> {
        let (out, y) = self.output("gelu", x.rows, x.cols)?;
        let n = x.rows * x.cols;
        self.each("gelu", Kernel::Gelu(kind), &[self.view(x)?, out], &[n as u32, 0, 0, 0], n)?;
        Ok(y)
    }

    pub(crate) fn scaled(&self, x: &Tensor, gpas_gate: &Weight) -> Result<Tensor> {
        let gate = gpas_gate.vector("gpas", 1)?;
        let (out, y) = self.output("gpas", x.rows, x.cols)?;
        let n = x.rows * x.cols;
        self.each("gpas", Kernel::Gpas, &[self.view(x)?, gate, out], &[n as u32, 0, 0, 0], n)?;
        Ok(y)
    }

    /// The values of rows that were to be rotated.
    pub(crate) fn rotated(&self, x: &Tensor, cos_sin: &Tensor, pairs: RopePairs) -> Result<View> {
        let views = [self.view(x)?, self.view(cos_sin)?, View::from(&self.scratch("rope", x.rows * x.cols)?)];
        let (a_row, a_head) = (x.cols / 2, cos_sin.cols / 2);
        let n = x.rows * a_row;
        self.each("rope", Kernel::Rope(pairs), &views, &[n as u32, a_row as u32, a_head as u32, 0], n)?;
        let [_, _, out] = views;
        Ok(out)
    }
}

/// The group whose two products `gate` and `up` are, if nobody has computed them and one kernel can: that of one row
/// without biases, by weights in one piece.
fn pair(gate: &Tensor, up: &Tensor) -> Option<Rc<Products>> {
    let (gate, up) = (gate.node.borrow(), up.node.borrow());
    let Node::Product { group, index: 0 } = &*gate else { return None };
    let Node::Product { group: other, index: 1 } = &*up else { return None };
    let [(gate, None), (up, None)] = &group.weights[..] else { return None };
    let is_whole = gate.whole().is_some() && up.whole().is_some();
    let fits = Rc::ptr_eq(group, other) && group.x.rows == 1 && is_whole && group.outputs.borrow().is_none();
    fits.then(|| Rc::clone(group))
}
