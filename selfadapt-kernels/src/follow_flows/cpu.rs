//! Flow following on the CPU: blocks of pixels in parallel, several pixels interleaved within a block.

use rayon::prelude::*;

use super::Field;
use crate::simd::dispatched;

/// Pixels in flight at once. A step waits for the one before it; with several pixels, the processor works
/// on the others meanwhile.
const LANES: usize = 8;
/// Pixels that a thread takes at once.
const BLOCK: usize = 2048;

#[derive(Clone, Copy)]
struct Walker {
    at: [f32; 2],
    /// Where it was at step `kept_step`, a power of two: back there, it is in a circle (Brent's method).
    kept: [f32; 2],
    kept_step: usize,
    step: usize,
    pixel: usize,
}

/// Positions after `steps` steps, bilinear between pixels.
pub(super) fn interpolated(field: &Field, starts: &[u32], steps: usize) -> Vec<[f32; 2]> {
    let mut ends = vec![[0.0; 2]; starts.len()];
    ends.par_chunks_mut(BLOCK)
        .zip(starts.par_chunks(BLOCK))
        .for_each(|(ends, starts)| {
            follow_block(field, starts, steps, ends);
        });
    ends
}

dispatched! {
    fn follow_block(field: &Field, starts: &[u32], steps: usize, ends: &mut [[f32; 2]]) {
        let walker = |pixel: usize| {
            let at = start(field, starts[pixel]);
            Walker {
                at,
                kept: at,
                kept_step: 0,
                step: 0,
                pixel,
            }
        };
        let lanes = LANES.min(starts.len());
        let mut walkers: Vec<Walker> = (0..lanes).map(walker).collect();
        let mut next = lanes;
        if steps == 0 {
            for (end, &pixel) in ends.iter_mut().zip(starts) {
                *end = start(field, pixel);
            }
            return;
        }
        while !walkers.is_empty() {
            let mut lane = 0;
            while lane < walkers.len() {
                let w = &mut walkers[lane];
                w.at = field.step(w.at);
                w.step += 1;
                if w.at == w.kept {
                    // From here on the same positions follow in turn: skip whole rounds of them.
                    let round = w.step - w.kept_step;
                    w.step = steps - (steps - w.step) % round;
                }
                if w.step >= steps {
                    ends[w.pixel] = w.at;
                    if next < starts.len() {
                        *w = walker(next);
                        next += 1;
                    } else {
                        walkers.swap_remove(lane);
                        continue;
                    }
                } else if w.step.is_power_of_two() {
                    (w.kept, w.kept_step) = (w.at, w.step);
                }
                lane += 1;
            }
        }
    }
}

/// Positions after `steps` steps, each by the vector of the pixel that the position lies in.
pub(super) fn by_pixel(field: &Field, starts: &[u32], steps: usize) -> Vec<[f32; 2]> {
    let walk = |&pixel: &u32| {
        let mut at = start(field, pixel);
        for _ in 0..steps {
            let [dy, dx] = field.steps[field.corner(at)];
            let to = field.clamp([at[0] + dy, at[1] + dx]);
            if to == at {
                break;
            }
            at = to;
        }
        at
    };
    starts.par_iter().with_min_len(BLOCK).map(walk).collect()
}

fn start(field: &Field, pixel: u32) -> [f32; 2] {
    let pixel = pixel as usize;
    let [top, left] = field.origin;
    [
        (top + pixel / field.width) as f32,
        (left + pixel % field.width) as f32,
    ]
}

impl Field {
    /// Index of the pixel that a position within the image lies in.
    #[inline(always)]
    fn corner(&self, [y, x]: [f32; 2]) -> usize {
        let [top, left] = self.origin;
        (y as usize - top) * (self.width + 1) + (x as usize - left)
    }

    #[inline(always)]
    fn clamp(&self, [y, x]: [f32; 2]) -> [f32; 2] {
        let [top, left] = self.origin;
        [
            y.max(top as f32).min((top + self.height - 1) as f32),
            x.max(left as f32).min((left + self.width - 1) as f32),
        ]
    }

    #[inline(always)]
    fn step(&self, at: [f32; 2]) -> [f32; 2] {
        let corner = self.corner(at);
        let below = corner + self.width + 1;
        let (y, x) = (at[0].fract(), at[1].fract());
        let [a, b] = [self.steps[corner], self.steps[corner + 1]];
        let [c, d] = [self.steps[below], self.steps[below + 1]];
        let dy = mix([a[0], b[0], c[0], d[0]], y, x);
        let dx = mix([a[1], b[1], c[1], d[1]], y, x);
        self.clamp([at[0] + dy as f32, at[1] + dx as f32])
    }
}

/// Bilinear between `a b` above and `c d` below, in the original's order and types: a product is `f32` until a
/// factor `1 - fraction` makes it `f64`.
#[inline(always)]
fn mix([a, b, c, d]: [f32; 4], y: f32, x: f32) -> f64 {
    let (above, left) = (1.0 - f64::from(y), 1.0 - f64::from(x));
    f64::from(a) * above * left
        + f64::from(b) * above * f64::from(x)
        + f64::from(c * y) * left
        + f64::from(d * y * x)
}

#[cfg(test)]
mod tests {
    use crate::follow_flows::{Field, follow_flows};

    #[test]
    fn a_straight_flow_stops_at_the_border() {
        // Three quarters of a pixel to the right and half a pixel up.
        let steps: Vec<f32> = [[-0.5; 12], [0.75; 12]].concat();
        let field = Field::new(&steps, 3, 4).unwrap();
        for interpolate in [true, false] {
            let ends = follow_flows(&field, &[4, 8], 2, interpolate).unwrap();
            assert_eq!(ends, [[0.0, 1.5], [1.0, 1.5]]);
            let ends = follow_flows(&field, &[4, 8, 11], 10, interpolate).unwrap();
            assert_eq!(ends, [[0.0, 3.0]; 3]);
            let ends = follow_flows(&field, &[5], 0, interpolate).unwrap();
            assert_eq!(ends, [[1.0, 1.0]]);
        }
    }

    #[test]
    fn interpolation_is_bilinear_between_pixel_centres() {
        // dy = x / 4, dx = 0.5: after the first step at x = 0.5, dy is 1 / 8.
        let steps = [0.0, 0.25, 0.0, 0.25, 0.5, 0.5, 0.5, 0.5];
        let field = Field::new(&steps, 2, 2).unwrap();
        let ends = follow_flows(&field, &[0], 2, true).unwrap();
        assert_eq!(ends, [[0.125, 1.0]]);
        let ends = follow_flows(&field, &[0], 3, false).unwrap();
        assert_eq!(ends, [[0.25, 1.0]]);
    }

    #[test]
    fn circles_end_where_the_last_step_ends() {
        // To and fro between x = 0 and x = 2: the parity of the steps decides.
        let steps = [0.0, 0.0, 0.0, 2.0, 0.0, -2.0];
        let field = Field::new(&steps, 1, 3).unwrap();
        for steps in 1..40 {
            let ends = follow_flows(&field, &[0, 2], steps, true).unwrap();
            let odd = steps % 2 == 1;
            let expected = if odd { [2.0, 0.0] } else { [0.0, 2.0] };
            assert_eq!(ends, expected.map(|x| [0.0, x]), "{steps}");
        }
    }

    #[test]
    fn skipping_circles_changes_nothing() {
        let (height, width) = (23, 31);
        let wave = |i: usize| ((i * 7919 % 104_729) as f32 * 0.37).sin() * 0.9;
        let steps: Vec<f32> = (0..2 * height * width).map(wave).collect();
        let field = Field::new(&steps, height, width).unwrap();
        let starts: Vec<u32> = (0..(height * width) as u32).collect();
        for count in [1, 2, 63, 64, 65, 200] {
            let plain: Vec<[f32; 2]> = starts
                .iter()
                .map(|&pixel| (0..count).fold(super::start(&field, pixel), |at, _| field.step(at)))
                .collect();
            assert_eq!(follow_flows(&field, &starts, count, true).unwrap(), plain);
        }
    }

    #[test]
    fn odd_input_is_survived_or_refused() {
        let field = Field::new(&[f32::NAN, f32::INFINITY], 1, 1).unwrap();
        for interpolate in [true, false] {
            let ends = follow_flows(&field, &[0], 200, interpolate).unwrap();
            assert_eq!(ends, [[0.0, 0.0]]);
        }
        let huge = Field::new(&[f32::MAX, f32::MAX, f32::MIN, f32::MAX], 1, 2).unwrap();
        assert_eq!(
            follow_flows(&huge, &[0, 1], 3, true).unwrap(),
            [[0.0, 0.0], [0.0, 1.0]]
        );
        assert!(follow_flows(&field, &[1], 1, true).is_err());
        assert!(Field::new(&[0.0; 3], 1, 2).is_err());
        assert!(Field::of_network(&[0.0; 2], &[0.0; 2], 0.0, 1, 1).is_err());
        let empty = Field::new(&[], 0, 5).unwrap();
        assert!(follow_flows(&empty, &[], 5, true).unwrap().is_empty());
    }

    #[test]
    fn outside_of_cells_nothing_moves() {
        let field = Field::of_network(&[5.0, 5.0, -2.5, -2.5], &[0.0, 0.1], 0.0, 1, 2).unwrap();
        let ends = follow_flows(&field, &[0, 1], 1, true).unwrap();
        assert_eq!(ends, [[0.0, 0.0], [0.0, 0.5]]);
    }
}
