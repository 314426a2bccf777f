//! Kernels over plain slices, below the custom operations.
//!
//! Work is cut into chunks of a fixed size and partial sums are added in order, so results do not
//! depend on the number of threads.

pub(crate) mod attention;
pub(crate) mod cross_entropy;
pub(crate) mod exp;
pub(crate) mod experts;
pub(crate) mod gemm;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod orthogonal;
pub(crate) mod pointwise;
pub(crate) mod rope;
pub(crate) mod route;
pub(crate) mod rows;
pub(crate) mod simd;
pub(crate) mod top_k;

/// Up to so many rows, no kernel lets the sums of one depend on those beside it. A product with a dense weight
/// is bound by reading it then, so that going row by row costs nothing.
pub(crate) const EXACT_ROWS: usize = 8;
