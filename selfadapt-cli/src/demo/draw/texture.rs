//! Smooth random fields: what uneven light, chromatin and cytoplasm are made of.

use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// A field `[side, side]` of mean 0 and standard deviation 1 at its lattice points, which lie `spacing` pixels apart;
/// smooth between them.
pub fn smooth(side: usize, spacing: f32, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let points = (side as f32 / spacing) as usize + 3;
    let lattice: Array2<f32> =
        Array2::from_shape_simple_fn((points, points), || StandardNormal.sample(rng));
    // A shift, so that lattice points do not lie at the same pixels in every image.
    let shift: f32 = rand::RngExt::random(rng);
    let place = |i: usize| {
        let at = i as f32 / spacing + shift;
        let t = at.fract();
        (at as usize, t * t * (3. - 2. * t))
    };
    Array2::from_shape_fn((side, side), |(y, x)| {
        let ((row, down), (column, right)) = (place(y), place(x));
        let value = |i: usize, j: usize| -> f32 { lattice[[row + i, column + j]] };
        let above = value(0, 0) * (1. - right) + value(0, 1) * right;
        let below = value(1, 0) * (1. - right) + value(1, 1) * right;
        above * (1. - down) + below * down
    })
}

/// Fields of halving spacing and strength, added up.
pub fn rough(side: usize, spacing: f32, octaves: u32, rng: &mut ChaCha8Rng) -> Array2<f32> {
    let mut sum = Array2::zeros((side, side));
    for octave in 0..octaves {
        let part = 0.5_f32.powi(octave as i32);
        sum.scaled_add(part, &smooth(side, (spacing * part).max(1.), rng));
    }
    sum
}
