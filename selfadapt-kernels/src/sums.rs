//! Sums with a fixed order that vectorise: lanes in the numbers' own precision, blocks of them in f64.

use std::array::from_fn;

use candle_core::WithDType;

/// Partial sums side by side.
const LANES: usize = 16;

/// Elements that may be summed in their own precision before f64 takes over.
pub(crate) const BLOCK: usize = 64 * LANES;

/// Sum of `f` over the indices below `len`, at most [`BLOCK`], lane by lane.
#[inline(always)]
pub(crate) fn lane_sum<T: WithDType>(len: usize, f: impl Fn(usize) -> T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        let term: [T; LANES] = from_fn(|l| f(start + l));
        for (lane, term) in lanes.iter_mut().zip(term) {
            *lane += term;
        }
    }
    let tail: f64 = (whole..len).map(|i| f(i).to_f64()).sum();
    lanes.iter().map(|l| l.to_f64()).sum::<f64>() + tail
}
