//! Activations on the device, and those that are put off until somebody uses them.

use std::cell::RefCell;
use std::rc::Rc;

use tensor::RopePairs;

use crate::pool::Buffer;
use crate::weight::{Run, Weight};

/// A place in a buffer: a multiple of [`VIEW_ALIGN`](crate::pool::VIEW_ALIGN) bytes from its start.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) buffer: Rc<Buffer>,
    pub(crate) offset: u64,
}

impl From<&Rc<Buffer>> for View {
    fn from(buffer: &Rc<Buffer>) -> Self {
        Self { buffer: Rc::clone(buffer), offset: 0 }
    }
}

/// Activations `[rows, cols]` on the device. Cloning shares them.
#[derive(Clone)]
pub struct Tensor {
    pub(crate) node: Rc<RefCell<Node>>,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
}

/// What a tensor is.
#[derive(Clone)]
pub(crate) enum Node {
    /// Row after row in a buffer.
    Stored(View),
    /// A sum that a norm may compute on its way.
    Sum(Tensor, Tensor),
    /// One of several products of the same rows, computed together.
    Product { group: Rc<Products>, index: usize },
    /// Rows that attention may rotate on its way.
    Rotated { x: Tensor, cos_sin: Tensor, pairs: RopePairs },
    /// `silu(gate) ⊙ up` of one row: the two products of a group. Shared experts may be computed with routed ones.
    Gated(Rc<Products>),
    /// Routed experts of one row.
    Routed(Rc<Routed>),
}

/// The experts chosen for one row.
pub(crate) struct Routed {
    pub(crate) x: Tensor,
    pub(crate) ids: View,
    pub(crate) weights: Tensor,
    pub(crate) top_k: usize,
    /// Width inside an expert.
    pub(crate) inner: usize,
    /// Gate, up and down of all experts, each in one piece.
    pub(crate) runs: [Run; 3],
}

/// Products of `x` with several weights.
pub(crate) struct Products {
    pub(crate) x: Tensor,
    pub(crate) weights: Vec<(Weight, Option<Weight>)>,
    /// One a weight, once they were computed.
    pub(crate) outputs: RefCell<Option<Vec<View>>>,
}

impl Tensor {
    pub(crate) fn new(node: Node, rows: usize, cols: usize) -> Self {
        Self { node: Rc::new(RefCell::new(node)), rows, cols }
    }

    pub(crate) fn stored(view: View, rows: usize, cols: usize) -> Self {
        Self::new(Node::Stored(view), rows, cols)
    }

    /// Bytes of its values.
    pub(crate) fn n_bytes(&self) -> u64 {
        (self.rows * self.cols * size_of::<f32>()) as u64
    }

    /// The two addends, if it is a sum that nobody has computed yet.
    pub(crate) fn addends(&self) -> Option<(Tensor, Tensor)> {
        match &*self.node.borrow() {
            Node::Sum(x, y) => Some((x.clone(), y.clone())),
            _ => None,
        }
    }
}

/// Indices on the device. Cloning shares them.
#[derive(Clone)]
pub struct Ids {
    pub(crate) view: View,
    pub(crate) len: usize,
    /// The indices themselves, if they came from the host, where they are checked.
    pub(crate) host: Option<Rc<[u32]>>,
}
