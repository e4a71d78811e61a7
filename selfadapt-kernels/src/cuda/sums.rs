//! Sums over whole arrays: each block leaves its part, in `f64`, and the parts are added in order.

use candle_core::Result;

use super::Array;

/// Parts of a sum, and so the blocks of a kernel that takes one. Fixed, so that a sum does not depend on the GPU;
/// `common.cuh` says the same.
pub(crate) const PARTS: u32 = 256;

/// The sum of parts, in their order; waits for them.
pub(crate) fn add_up(parts: &Array<f64>) -> Result<f64> {
    Ok(parts.read()?.iter().sum())
}
