//! Sums with a fixed order that vectorise: lanes in the numbers' own precision, blocks of them in f64.

use candle_core::WithDType;

/// Partial sums side by side.
const LANES: usize = 16;

/// Elements that may be summed in their own precision before f64 takes over.
pub(crate) const BLOCK: usize = 64 * LANES;

/// Sum of `f` over at most [`BLOCK`] values, lane by lane.
#[inline(always)]
pub(crate) fn lane_sum<T: WithDType>(values: &[T], f: impl Fn(T) -> T) -> f64 {
    let mut lanes = [T::zero(); LANES];
    let mut rows = values.chunks_exact(LANES);
    for row in &mut rows {
        for (lane, &value) in lanes.iter_mut().zip(row) {
            *lane += f(value);
        }
    }
    let tail: f64 = rows.remainder().iter().map(|&v| f(v).to_f64()).sum();
    lanes.iter().map(|l| l.to_f64()).sum::<f64>() + tail
}
