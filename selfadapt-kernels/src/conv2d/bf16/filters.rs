//! Weights in the order in which tiles read them, and rounding to bf16.

use super::{DEPTH, SIDE};
use crate::conv2d::geometry::Geometry;
use crate::conv2d::plan::{ColumnBlock, Plan, column_blocks};
use crate::simd::dispatched;

/// The weights of a convolution, or of its gradient by the input, rounded.
#[derive(Clone)]
pub(crate) struct Filters {
    /// Where taps lie; without its own weights.
    plan: Plan,
    /// `[block of two tiles of target channels][row of taps][32 taps and source channels][tile][16 pairs of them]
    /// [16 target channels][2]`, zero where there is no channel.
    weights: Vec<u16>,
}

impl Filters {
    /// Rounds `weight` for the convolution itself. It must suit.
    pub fn forward(geometry: &Geometry, weight: &[f32]) -> Self {
        Self::of(Plan::forward(geometry, weight, SIDE))
    }

    /// Rounds `weight` for the gradient by the input. It must suit.
    pub fn backward_data(geometry: &Geometry, weight: &[f32]) -> Self {
        Self::of(Plan::backward_data(geometry, weight, SIDE))
    }

    fn of(mut plan: Plan) -> Self {
        // At stride 1 there is one phase.
        let phase = &mut plan.phases[0];
        let exact = std::mem::take(&mut phase.weights);
        let rows = phase.y.kernel.len() * phase.x.kernel.len() * plan.source;
        let mut weights = vec![0; exact.len()];
        for block in column_blocks(plan.target, SIDE) {
            let from = &exact[rows * block.start..][..rows * block.width];
            let to = &mut weights[rows * block.start..][..rows * block.width];
            for (row, values) in from.chunks_exact(block.width).enumerate() {
                let (chunk, pair, which) = (row / DEPTH, row % DEPTH / 2, row % 2);
                for (column, &value) in values.iter().enumerate() {
                    let tile = chunk * (block.width / SIDE) + column / SIDE;
                    let at = ((tile * DEPTH / 2 + pair) * SIDE + column % SIDE) * 2 + which;
                    to[at] = rounded(value);
                }
            }
        }
        Self { plan, weights }
    }

    /// Taps along each axis.
    pub fn taps(&self) -> usize {
        self.plan.phases[0].y.kernel.len()
    }

    /// The first source pixel for target pixel 0.
    pub fn first(&self) -> isize {
        self.plan.first
    }

    /// Source pixels that a run of target pixels reads along one axis.
    pub fn reach(&self, targets: usize) -> usize {
        self.plan.reach(targets)
    }

    /// The weights of a block of target channels.
    pub fn block(&self, block: ColumnBlock) -> &[u16] {
        let rows = self.taps() * self.taps() * self.plan.source;
        &self.weights[rows * block.start..][..rows * block.width]
    }
}

/// The nearest bf16, of two equally near the even one.
#[inline(always)]
fn rounded(value: f32) -> u16 {
    let bits = value.to_bits();
    let near = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    // Adding would carry a NaN over into a number.
    if value.is_nan() { 0x7fc0 } else { near as u16 }
}

dispatched! {
    /// Rounds `from` to as many values `to`.
    pub(crate) fn round(from: &[f32], to: &mut [u16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = rounded(from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_to_even_between() {
        let wide = |half: u16| f32::from_bits(u32::from(half) << 16);
        for (value, expected) in [
            (0., 0.),
            (-0., -0.),
            (1., 1.),
            (1. + 1. / 256., 1.),
            (1. + 3. / 256., 1. + 1. / 64.),
            (1. + 1.1 / 256., 1. + 1. / 128.),
            (-3.140625, -3.140625),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
        ] {
            let mut found = [1];
            round(&[value], &mut found);
            assert_eq!(wide(found[0]).to_bits(), f32::to_bits(expected), "{value}");
        }
        for bits in [0x7fff_ffffu32, 0xffff_ffff, 0x7f80_0001] {
            assert!(wide(rounded(f32::from_bits(bits))).is_nan());
        }
    }
}
