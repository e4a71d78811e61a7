//! Flips, turns, scales and cuts an image and its target maps, as Cellpose's `random_rotate_and_resize` does.

use ndarray::{Array2, ArrayView2};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Where a square crop comes from: the image is flipped left-right or not, turned about its centre by `angle`,
/// scaled, and shifted under the crop. Beyond the image there are zeros.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warp {
    /// Whether columns are reversed first.
    pub flip: bool,
    /// Angle in radians, from +x towards +y.
    pub angle: f64,
    /// Crop pixels per image pixel.
    pub scale: f64,
    /// By how much `(y, x)` the image's centre lies beside the crop's, in crop pixels.
    pub shift: (f64, f64),
    /// Side of the crop in pixels.
    pub side: usize,
}

impl Warp {
    /// Draws a flip, an angle, a scale of `scale` times `1 - range / 2` to `1 + range / 2`, and a shift that keeps the
    /// crop on an image of `size` `(height, width)` as far as it would be without the turn.
    pub fn draw(
        size: (usize, usize),
        side: usize,
        scale: f64,
        range: f64,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let mut even = || rng.random::<f64>();
        let flip = even() > 0.5;
        let angle = even() * std::f64::consts::TAU;
        let scale = scale * (1. - range / 2. + range * even());
        let mut shift = |length: usize| {
            let room = (length as f64 * scale - side as f64).max(0.);
            (even() - 0.5) * room
        };
        let x = shift(size.1);
        let y = shift(size.0);
        Self {
            flip,
            angle,
            scale,
            shift: (y, x),
            side,
        }
    }

    /// Where in an image of `size` the crop's pixel `(row, column)` lies, as `(y, x)`.
    fn source(&self, (height, width): (usize, usize)) -> impl Fn((usize, usize)) -> (f64, f64) {
        let warp = *self;
        let (sin, cos) = warp.angle.sin_cos();
        let half = warp.side as f64 / 2.;
        let centre = (height as f64 / 2., width as f64 / 2.);
        move |(row, column)| {
            let y = (row as f64 - half - warp.shift.0) / warp.scale;
            let x = (column as f64 - half - warp.shift.1) / warp.scale;
            let (y, x) = (y * cos - x * sin + centre.0, x * cos + y * sin + centre.1);
            let x = if warp.flip { width as f64 - 1. - x } else { x };
            (y, x)
        }
    }

    /// The crop of a map `[H, W]`, interpolated between pixels.
    pub fn bilinear(&self, map: ArrayView2<f32>) -> Array2<f32> {
        let source = self.source(map.dim());
        Array2::from_shape_fn((self.side, self.side), |place| {
            let (y, x) = source(place);
            let (top, left) = (y.floor(), x.floor());
            let (down, right) = ((y - top) as f32, (x - left) as f32);
            let row = |y| value(map, y, left) * (1. - right) + value(map, y, left + 1.) * right;
            row(top) * (1. - down) + row(top + 1.) * down
        })
    }

    /// The crop of a map `[H, W]` of classes or labels: each pixel takes the nearest one's value.
    pub fn nearest(&self, map: ArrayView2<f32>) -> Array2<f32> {
        let source = self.source(map.dim());
        Array2::from_shape_fn((self.side, self.side), |place| {
            let (y, x) = source(place);
            value(map, y.round(), x.round())
        })
    }

    /// Turns vectors with components `y` and `x` as the image under them was turned.
    pub fn turn(&self, y: &mut Array2<f32>, x: &mut Array2<f32>) {
        let (sin, cos) = self.angle.sin_cos();
        let (sin, cos) = (sin as f32, cos as f32);
        let sign = if self.flip { -1. } else { 1. };
        for (y, x) in y.iter_mut().zip(x.iter_mut()) {
            let (before_y, before_x) = (*y, sign * *x);
            *y = before_x * sin + before_y * cos;
            *x = before_x * cos - before_y * sin;
        }
    }
}

/// The value at a whole-numbered place; 0 beyond the map.
fn value(map: ArrayView2<f32>, y: f64, x: f64) -> f32 {
    if y < 0. || x < 0. {
        return 0.;
    }
    map.get((y as usize, x as usize)).copied().unwrap_or(0.)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    const SIZE: (usize, usize) = (60, 50);

    fn drawn(seed: u64) -> Warp {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Warp::draw(SIZE, 32, 0.8, 0.5, &mut rng)
    }

    #[test]
    fn without_a_turn_it_is_a_cut() {
        let map = Array2::from_shape_fn(SIZE, |(y, x)| (100 * y + x) as f32);
        let cut = Warp {
            flip: false,
            angle: 0.,
            scale: 1.,
            shift: (4., -3.),
            side: 20,
        };
        // The centre (30, 25) of the image lies at (10 + 4, 10 - 3) of the crop.
        for (found, row) in [(cut.bilinear(map.view()), 5), (cut.nearest(map.view()), 5)] {
            assert_eq!(found[[row, 7]], map[[row + 16, 25]]);
        }
        let flipped = Warp { flip: true, ..cut };
        assert_eq!(flipped.nearest(map.view())[[5, 7]], map[[21, 24]]);
    }

    #[test]
    fn vectors_that_point_to_a_spot_still_do() {
        let spot = (33., 21.);
        let towards = |axis: usize| {
            Array2::from_shape_fn(SIZE, |(y, x)| {
                let (y, x) = (spot.0 - y as f32, spot.1 - x as f32);
                let length = y.hypot(x).max(1e-6);
                [y / length, x / length][axis]
            })
        };
        let light = Array2::from_shape_fn(SIZE, |(y, x)| {
            (-((y as f32 - spot.0).powi(2) + (x as f32 - spot.1).powi(2)) / 8.).exp()
        });
        for seed in 0..20 {
            let warp = drawn(seed);
            let (mut y, mut x) = (
                warp.bilinear(towards(0).view()),
                warp.bilinear(towards(1).view()),
            );
            warp.turn(&mut y, &mut x);
            let light = warp.bilinear(light.view());
            let Some((place, _)) = light
                .indexed_iter()
                .filter(|(_, v)| **v > 0.9)
                .max_by(|a, b| a.1.total_cmp(b.1))
            else {
                continue;
            };
            let mut looked = 0;
            for ((row, column), &dy) in y.indexed_iter() {
                let dx = x[[row, column]];
                let (to_y, to_x) = (place.0 as f32 - row as f32, place.1 as f32 - column as f32);
                let far = to_y.hypot(to_x);
                // Near the spot the place is not known well enough, and near the image's edge zeros take part.
                if far > 8. && dy.hypot(dx) > 0.99 {
                    let along = (dy * to_y + dx * to_x) / far;
                    assert!(along > 0.97, "seed {seed}: {along} at {row}, {column}");
                    looked += 1;
                }
            }
            assert!(looked > 100, "seed {seed}: {looked}");
        }
    }

    #[test]
    fn scales_and_shifts_stay_in_their_ranges() {
        for seed in 0..200 {
            let warp = drawn(seed);
            assert!((0.6..=1.0).contains(&warp.scale));
            let room = |length: usize| (length as f64 * warp.scale - 32.).max(0.) / 2.;
            assert!(warp.shift.0.abs() <= room(SIZE.0) && warp.shift.1.abs() <= room(SIZE.1));
        }
        assert_eq!(drawn(3), drawn(3));
    }
}
