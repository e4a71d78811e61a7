//! Draws star polygons into a label image, the most probable on top.
//!
//! A pixel belongs to a polygon if its centre (whole coordinates) lies inside, on an edge or on a corner, inside
//! being an odd number of edges to one side: `polygons_to_label` of stardist 0.9.1 and `draw.polygon` of
//! scikit-image 0.26 below it, in their precision.

use std::ops::Range;

use candle_core::{Result, bail};
use rayon::prelude::*;

use crate::star_nms::Stars;

const OP: &str = "star_polygons";

/// Rows that one thread draws at a time.
const BAND: usize = 32;

/// Distance below which a pixel is on a corner.
const EPSILON: f64 = 1e-12;

/// Draws star `i` as label `i + 1` into an image `[height, width]` of zeros, in ascending order of
/// `probabilities` (equal ones in their own order), so that the most probable covers the others.
///
/// `stretch` (y, x) multiplies the polygons about their centres; 1 where the image has the maps' scale.
///
/// # Errors
/// If sizes do not belong together, or a number is not finite.
pub fn draw(
    stars: Stars<'_>,
    probabilities: &[f32],
    stretch: [f64; 2],
    height: usize,
    width: usize,
) -> Result<Vec<u32>> {
    draw_part(stars, probabilities, stretch, [0..height, 0..width])
}

/// As [`draw`], the part of the image with these rows and columns.
///
/// # Errors
/// As [`draw`].
pub fn draw_part(
    stars: Stars<'_>,
    probabilities: &[f32],
    stretch: [f64; 2],
    [rows, columns]: [Range<usize>; 2],
) -> Result<Vec<u32>> {
    stars.check(OP)?;
    if probabilities.len() != stars.centres.len() {
        bail!(
            "{OP}: expected a probability for each of {} stars, found {}",
            stars.centres.len(),
            probabilities.len()
        );
    }
    if u32::try_from(stars.centres.len()).is_err() {
        bail!("{OP}: expected fewer than 2^32 stars");
    }
    let (height, width) = (rows.len(), columns.len());
    let Some(pixels) = height.checked_mul(width) else {
        bail!("{OP}: an image of {height} x {width} pixels is too large");
    };
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let outlines = outlines(&stars, &order, stretch);
    let mut labels = vec![0; pixels];
    if pixels == 0 {
        return Ok(labels);
    }
    labels
        .par_chunks_mut(BAND * width)
        .enumerate()
        .for_each(|(band, pixels)| {
            for outline in &outlines {
                outline.fill(pixels, rows.start + band * BAND, &columns);
            }
        });
    Ok(labels)
}

/// A polygon to be drawn.
struct Outline {
    label: u32,
    /// Corners (y, x).
    corners: Vec<[f64; 2]>,
    /// First and last row and column that it can reach, as the original rounds them.
    low: [f64; 2],
    high: [f64; 2],
}

fn outlines(stars: &Stars<'_>, order: &[usize], stretch: [f64; 2]) -> Vec<Outline> {
    let step = 2. * std::f64::consts::PI / stars.rays as f64;
    let directions: Vec<[f64; 2]> = (0..stars.rays)
        .map(|k| {
            let angle = k as f64 * step;
            [angle.sin(), angle.cos()]
        })
        .collect();
    order
        .par_iter()
        .map(|&index| {
            let distances = &stars.distances[index * stars.rays..][..stars.rays];
            let centre = stars.centres[index];
            let corners: Vec<[f64; 2]> = distances
                .iter()
                .zip(&directions)
                .map(|(&distance, direction)| {
                    std::array::from_fn(|axis| {
                        // Each step of `dist_to_coord` ends in single precision.
                        let reach = (f64::from(distance) * direction[axis]) as f32;
                        let reach = (f64::from(reach) * stretch[axis]) as f32;
                        f64::from((f64::from(reach) + f64::from(centre[axis])) as f32)
                    })
                })
                .collect();
            let most = |axis: usize, pick: fn(f64, f64) -> f64, from: f64| {
                corners.iter().map(|c| c[axis]).fold(from, pick)
            };
            Outline {
                label: index as u32 + 1,
                low: [0, 1].map(|axis| most(axis, f64::min, f64::INFINITY).max(0.).trunc()),
                high: [0, 1].map(|axis| most(axis, f64::max, f64::NEG_INFINITY).ceil()),
                corners,
            }
        })
        .collect()
}

impl Outline {
    /// Draws the rows of a band, whose first is `top`, and these columns.
    fn fill(&self, rows: &mut [u32], top: usize, columns: &Range<usize>) {
        let width = columns.len();
        let height = rows.len() / width;
        let last = (top + height - 1) as f64;
        let right = self.high[1].min((columns.end - 1) as f64);
        let left = self.low[1].max(columns.start as f64);
        let (from, to) = (self.low[0].max(top as f64), self.high[0].min(last));
        if from > to || left > right {
            return;
        }
        let (left, right) = (left as usize, right as usize);
        let mut crossing = Vec::new();
        for row in from as usize..=to as usize {
            self.crossing(row as f64, &mut crossing);
            if crossing.is_empty() {
                continue;
            }
            let line = &mut rows[(row - top) * width..][..width];
            let pixels = &mut line[left - columns.start..=right - columns.start];
            for (pixel, column) in pixels.iter_mut().zip(left..) {
                if contains(&crossing, column as f64) {
                    *pixel = self.label;
                }
            }
        }
    }

    /// Edges that touch a row, as two corners (x, y) each, y relative to the row.
    fn crossing(&self, row: f64, crossing: &mut Vec<[[f64; 2]; 2]>) {
        crossing.clear();
        let Some(last) = self.corners.last() else {
            return;
        };
        let mut before = [last[1], last[0] - row];
        for corner in &self.corners {
            let here = [corner[1], corner[0] - row];
            let (y0, y1) = (here[1], before[1]);
            if (y0 > 0.) != (y1 > 0.) || (y0 < 0.) != (y1 < 0.) || y0.abs() < EPSILON {
                crossing.push([here, before]);
            }
            before = here;
        }
    }
}

/// `point_in_polygon` of scikit-image, on the edges that the row touches.
fn contains(crossing: &[[[f64; 2]; 2]], column: f64) -> bool {
    let (mut to_the_right, mut to_the_left) = (false, false);
    for &[[x0, y0], [x1, y1]] in crossing {
        let (x0, x1) = (x0 - column, x1 - column);
        if x0.abs() < EPSILON && y0.abs() < EPSILON {
            return true;
        }
        let at = (x0 * y1 - x1 * y0) / (y1 - y0);
        to_the_right ^= (y0 > 0.) != (y1 > 0.) && at > 0.;
        to_the_left ^= (y0 < 0.) != (y1 < 0.) && at < 0.;
    }
    to_the_right || to_the_right != to_the_left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(
        centres: &[[f32; 2]],
        distances: &[f32],
        rays: usize,
        probabilities: &[f32],
    ) -> String {
        let stars = Stars {
            centres,
            distances,
            rays,
        };
        let labels = draw(stars, probabilities, [1.; 2], 7, 9).unwrap();
        let rows = labels
            .chunks(9)
            .map(|row| row.iter().map(u32::to_string).collect::<String>());
        rows.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pixels_are_those_of_scikit_image() {
        // A diamond whose corners and edges run through pixels: all of them belong to it.
        let diamond = drawn(&[[3., 4.]], &[2.; 4], 4, &[0.5]);
        assert_eq!(
            diamond,
            "000000000 000010000 000111000 001111100 000111000 000010000 000000000"
        );
        // All expectations here are printed by stardist.geometry.polygons_to_label.
        let odd = drawn(&[[3., 3.]], &[3.5, 1.2, 1.6, 2.2], 4, &[0.5]);
        assert_eq!(
            odd,
            "000000000 000100000 000110000 001111100 000100000 000000000 000000000"
        );
    }

    #[test]
    fn the_most_probable_is_on_top_and_edges_cut() {
        let centres = [[3., 2.], [3., 4.]];
        let distances = [2f32; 8];
        let first = drawn(&centres, &distances, 4, &[0.9, 0.8]);
        assert_eq!(
            first,
            "000000000 001020000 011122000 111112200 011122000 001020000 000000000"
        );
        let second = drawn(&centres, &distances, 4, &[0.8, 0.9]);
        assert_eq!(
            second,
            "000000000 001020000 011222000 112222200 011222000 001020000 000000000"
        );
        let corner = drawn(&[[0., 0.], [6., 8.]], &[1f32; 8], 4, &[0.5, 0.5]);
        assert_eq!(
            corner,
            "110000000 100000000 000000000 000000000 000000000 000000002 000000022"
        );
    }

    #[test]
    fn a_part_is_that_of_the_whole() {
        let (centres, distances) = ([[6., 9.], [20., 31.], [22., 36.]], [7.5f32; 24]);
        let stars = Stars {
            centres: &centres,
            distances: &distances,
            rays: 8,
        };
        let whole = draw(stars, &[0.5, 0.9, 0.7], [1.; 2], 70, 50).unwrap();
        let (rows, columns) = (3..65, 8..41);
        let parts = [rows.clone(), columns.clone()];
        let part = draw_part(stars, &[0.5, 0.9, 0.7], [1.; 2], parts).unwrap();
        for (line, row) in part.chunks(columns.len()).zip(rows) {
            assert_eq!(line, &whole[row * 50..][columns.clone()]);
        }
        assert!((1..=3).all(|label| part.contains(&label)));
    }

    #[test]
    fn nothing_and_nowhere_draw_nothing() {
        let none = Stars {
            centres: &[],
            distances: &[],
            rays: 4,
        };
        assert_eq!(draw(none, &[], [1.; 2], 2, 2).unwrap(), [0; 4]);
        assert!(draw(none, &[], [1.; 2], 0, 5).unwrap().is_empty());
        assert!(draw(none, &[0.1], [1.; 2], 2, 2).is_err());
        let outside = drawn(&[[-20., 3.], [3., 40.]], &[2f32; 8], 4, &[0.1, 0.2]);
        assert!(outside.chars().all(|c| c == '0' || c == ' '));
        let infinite = Stars {
            centres: &[[1., 1.]],
            distances: &[1., f32::INFINITY, 1., 1.],
            rays: 4,
        };
        assert!(draw(infinite, &[0.1], [1.; 2], 2, 2).is_err());
    }

    #[test]
    fn bands_do_not_show() {
        let rays = 32;
        let (height, width) = (150, 70);
        let mut centres = Vec::new();
        let mut distances = Vec::new();
        for i in 0..40 {
            centres.push([(i * 53 % 150) as f32, (i * 29 % 70) as f32]);
            distances.extend((0..rays).map(|k| 5. + ((i * 7 + k * 3) % 11) as f32));
        }
        let probabilities: Vec<f32> = (0..40).map(|i| (i * 17 % 40) as f32 / 40.).collect();
        let stars = Stars {
            centres: &centres,
            distances: &distances,
            rays,
        };
        let labels = draw(stars, &probabilities, [1.; 2], height, width).unwrap();
        let mut order: Vec<usize> = (0..40).collect();
        order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
        let outlines = outlines(&stars, &order, [1.; 2]);
        let mut slow = vec![0; height * width];
        for (pixel, label) in slow.iter_mut().enumerate() {
            for outline in &outlines {
                let all: Vec<[[f64; 2]; 2]> = (0..rays)
                    .map(|k| {
                        let at = |k: usize| {
                            let [y, x] = outline.corners[k % rays];
                            [x, y - (pixel / width) as f64]
                        };
                        [at(k), at(k + rays - 1)]
                    })
                    .collect();
                if contains(&all, (pixel % width) as f64) {
                    *label = outline.label;
                }
            }
        }
        assert_eq!(labels, slow);
    }
}
