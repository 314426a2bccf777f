//! Named taps: intermediate values of one forward pass, kept for whoever asked.

use std::cell::RefCell;

use crate::{Backend, Routing};

/// One captured value.
pub enum Tapped<B: Backend> {
    /// Rows of activations.
    Rows(B::Tensor),
    /// A router's choices.
    Routing(Routing<B>),
}

/// Collects intermediate values by name while a forward pass runs.
///
/// The model writes, the caller reads afterwards; a pass without taps pays one branch a layer.
pub struct Taps<B: Backend> {
    captured: RefCell<Vec<(String, Tapped<B>)>>,
}

impl<B: Backend> Default for Taps<B> {
    fn default() -> Self {
        Self { captured: RefCell::new(Vec::new()) }
    }
}

impl<B: Backend> Taps<B> {
    /// Keeps `x` under `name`.
    pub fn rows(&self, name: impl Into<String>, x: &B::Tensor) {
        self.captured.borrow_mut().push((name.into(), Tapped::Rows(x.clone())));
    }

    /// Keeps a router's choices under `name`.
    pub fn routing(&self, name: impl Into<String>, routing: &Routing<B>) {
        self.captured.borrow_mut().push((name.into(), Tapped::Routing(routing.clone())));
    }

    /// Everything captured, in order.
    #[must_use]
    pub fn into_captured(self) -> Vec<(String, Tapped<B>)> {
        self.captured.into_inner()
    }
}
