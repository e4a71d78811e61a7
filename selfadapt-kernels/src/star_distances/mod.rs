//! How far an instance reaches from a pixel along equally spaced rays: StarDist's training targets.
//!
//! From pixel p a ray goes in steps of 1 along the angle `2 pi k / rays`, measured from +x towards +y (down), until the
//! rounded place has another label or lies outside; half a step along its steeper axis is taken back beyond
//! the last place inside. `c_star_dist` of stardist 0.9.1, in its single precision.

use candle_core::{Result, bail};
use rayon::prelude::*;

use crate::objects::expect_size;

/// Distances `[places, rays]` in pixels from each of `places` (row, column) to the border of the instance of
/// `labels` `[height, width]` there; zeros on background.
///
/// # Errors
/// If `labels` has another size, a place lies outside, or there are fewer than 3 rays.
pub fn star_distances(
    labels: &[u32],
    height: usize,
    width: usize,
    places: &[[usize; 2]],
    rays: usize,
) -> Result<Vec<f32>> {
    const OP: &str = "star_distances";
    expect_size(OP, "labels", labels.len(), [1, height, width])?;
    if rays < 3 {
        bail!("{OP}: expected at least 3 rays, found {rays}");
    }
    if let Some([y, x]) = places.iter().find(|[y, x]| *y >= height || *x >= width) {
        bail!("{OP}: row {y}, column {x} lies outside an image of {height} x {width} pixels");
    }
    let step = (2. * std::f64::consts::PI / rays as f64) as f32;
    let directions: Vec<[f32; 2]> = (0..rays)
        .map(|k| {
            let angle = f64::from(k as f32 * step);
            [angle.sin() as f32, angle.cos() as f32]
        })
        .collect();
    let image = Image {
        labels,
        height,
        width,
    };
    let mut distances = vec![0.; places.len() * rays];
    distances
        .par_chunks_mut(rays)
        .zip(places)
        .for_each(|(distances, &[y, x])| {
            let label = labels[y * width + x];
            if label != 0 {
                for (distance, &direction) in distances.iter_mut().zip(&directions) {
                    *distance = image.reach([y, x], direction, label);
                }
            }
        });
    Ok(distances)
}

struct Image<'a> {
    labels: &'a [u32],
    height: usize,
    width: usize,
}

impl Image<'_> {
    fn reach(&self, from: [usize; 2], [dy, dx]: [f32; 2], label: u32) -> f32 {
        let (mut y, mut x) = (0f32, 0f32);
        loop {
            y += dy;
            x += dx;
            let row = (from[0] as f32 + y).round_ties_even();
            let column = (from[1] as f32 + x).round_ties_even();
            let inside = row >= 0. && column >= 0.;
            let (row, column) = (row as usize, column as usize);
            let same = inside
                && row < self.height
                && column < self.width
                && self.labels[row * self.width + column] == label;
            if !same {
                let back = 0.5 / dy.abs().max(dx.abs()) - 1.;
                y += back * dy;
                x += back * dx;
                return (y * y + x * x).sqrt();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_is_measured_along_its_rays() {
        // Pixels 2 to 6 of nine by nine.
        let inside = |i: usize| (2..7).contains(&i);
        let labels: Vec<u32> = (0..81)
            .map(|i| u32::from(inside(i / 9) && inside(i % 9)) * 3)
            .collect();
        let found = star_distances(&labels, 9, 9, &[[4, 4], [2, 6], [0, 0]], 8).unwrap();
        // stardist.geometry.star_dist(labels, 8)[4, 4], [2, 6] and [0, 0]
        // Diagonal steps round to a pixel less than they reach.
        let middle = [2.5, 3.707_106_6].repeat(4);
        let short = std::f32::consts::FRAC_1_SQRT_2;
        let corner = [0.5, short, 4.5, 6.707_106_6, 4.5, short, 0.5, short];
        for (found, expected) in found
            .iter()
            .zip(middle.iter().chain(&corner).chain(&[0.; 8]))
        {
            assert!((found - expected).abs() < 2e-5, "{found} for {expected}");
        }
    }

    #[test]
    fn other_instances_and_edges_end_a_ray() {
        let found = star_distances(&[1, 1, 2, 2, 2, 2], 1, 6, &[[0, 0], [0, 3]], 4).unwrap();
        assert_eq!(found, [1.5, 0.5, 0.5, 0.5, 2.5, 0.5, 1.5, 0.5]);
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let say = |labels: &[u32], places: &[[usize; 2]], rays| {
            let error = star_distances(labels, 1, 2, places, rays).unwrap_err();
            error.to_string()
        };
        assert!(say(&[1], &[], 8).contains("expected 1 x 1 x 2"));
        assert!(say(&[1, 1], &[[0, 2]], 8).contains("column 2 lies outside"));
        assert!(say(&[1, 1], &[], 2).contains("at least 3 rays"));
        assert!(star_distances(&[], 0, 0, &[], 8).unwrap().is_empty());
    }
}
