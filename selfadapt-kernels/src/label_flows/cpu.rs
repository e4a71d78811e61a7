//! One cell's diffusion on the CPU, over the runs of its pixels.

use std::ops::Range;

use crate::objects::Object;
use crate::simd::dispatched;

/// Pixels of a cell that lie side by side.
struct Run {
    /// Row in the image.
    y: usize,
    /// Columns in the image.
    x: Range<usize>,
}

fn runs<'a>(labels: &'a [u32], width: usize, object: &'a Object) -> impl Iterator<Item = Run> + 'a {
    object.rows.clone().flat_map(move |y| {
        let mut x = object.columns.start;
        labels[y * width..][object.columns.clone()]
            .chunk_by(|a, b| a == b)
            .filter_map(move |run| {
                let columns = x..x + run.len();
                x = columns.end;
                (run[0] == object.label).then_some(Run { y, x: columns })
            })
    })
}

/// The pixel of the object nearest to the mean of its pixels.
pub(super) fn centre(labels: &[u32], width: usize, object: &Object) -> [usize; 2] {
    let runs: Vec<Run> = runs(labels, width, object).collect();
    centre_of(&runs, object)
}

fn centre_of(runs: &[Run], object: &Object) -> [usize; 2] {
    // Counted from one pixel outside of the box, as the original does: the last bit of the mean decides ties.
    let (top, left) = (object.rows.start, object.columns.start);
    let (mut sum_y, mut sum_x) = (0, 0);
    for run in runs {
        sum_y += (run.y - top + 1) * run.x.len();
        sum_x += run.x.clone().map(|x| x - left + 1).sum::<usize>();
    }
    let mean = [sum_y, sum_x].map(|sum| sum as f64 / object.pixels as f64);
    let mut nearest = (f64::INFINITY, [top, left]);
    for run in runs {
        let dy = (run.y - top + 1) as f64 - mean[0];
        for x in run.x.clone() {
            let dx = (x - left + 1) as f64 - mean[1];
            let distance = dx * dx + dy * dy;
            if distance < nearest.0 {
                nearest = (distance, [run.y, x]);
            }
        }
    }
    nearest.1
}

/// The unit flows of one cell.
pub(crate) struct CellFlows {
    runs: Vec<Run>,
    /// `(dy, dx)` by pixel, row by row.
    flows: Vec<[f64; 2]>,
    width: usize,
}

impl CellFlows {
    /// Lets heat spread in `object`, one of those of `labels` `[_, width]`.
    pub(crate) fn new(labels: &[u32], width: usize, object: &Object) -> Self {
        let runs: Vec<Run> = runs(labels, width, object).collect();
        let flows = diffuse(&runs, object);
        Self { runs, flows, width }
    }

    /// Indices into the image, row by row, and flows.
    pub(crate) fn pixels(&self) -> impl Iterator<Item = (usize, [f64; 2])> {
        let pixels = self
            .runs
            .iter()
            .flat_map(|run| run.x.clone().map(|x| run.y * self.width + x));
        pixels.zip(self.flows.iter().copied())
    }
}

dispatched! {
    fn diffuse(runs: &[Run], object: &Object) -> Vec<[f64; 2]> {
        // A frame of one cold pixel around the box.
        let (height, width) = (object.rows.len() + 2, object.columns.len() + 2);
        let at =
            |y: usize, x: usize| (y + 1 - object.rows.start) * width + x + 1 - object.columns.start;
        let places: Vec<Range<usize>> = runs
            .iter()
            .map(|run| at(run.y, run.x.start)..at(run.y, run.x.end))
            .collect();
        let [y, x] = centre_of(runs, object);
        let source = at(y, x);
        let mut heat = vec![0.0; height * width];
        let mut next = heat.clone();
        for _ in 0..2 * (height + width) {
            heat[source] += 1.0;
            for place in &places {
                let (start, count) = (place.start, place.len());
                let around = |row: usize| &heat[row - 1..][..count + 2];
                spread(
                    [around(start - width), around(start), around(start + width)],
                    &mut next[place.clone()],
                );
            }
            std::mem::swap(&mut heat, &mut next);
        }
        let mut flows = Vec::with_capacity(object.pixels);
        for place in places {
            flows.extend(place.map(|at| {
                let dy = heat[at + width] - heat[at - width];
                let dx = heat[at + 1] - heat[at - 1];
                let length = 1e-60 + (dy * dy + dx * dx).sqrt();
                [dy / length, dx / length]
            }));
        }
        flows
    }
}

/// Means over 3 x 3 pixels; `rows` are one pixel longer than `out` on both sides.
#[inline(always)]
fn spread([above, here, below]: [&[f64]; 3], out: &mut [f64]) {
    let n = out.len();
    let (above, here, below) = (&above[..n + 2], &here[..n + 2], &below[..n + 2]);
    for i in 0..n {
        let sum = here[i + 1]
            + above[i + 1]
            + below[i + 1]
            + here[i]
            + here[i + 2]
            + above[i]
            + above[i + 2]
            + below[i]
            + below[i + 2];
        out[i] = 1.0 / 9.0 * sum;
    }
}

#[cfg(test)]
mod tests {
    use crate::label_flows::{centres, label_flows};

    #[test]
    fn flows_point_to_the_centre() {
        let (height, width) = (9, 11);
        let labels: Vec<u32> = (0..height * width)
            .map(|i| {
                let (y, x) = ((i / width) as f64 - 4.0, (i % width) as f64 - 5.0);
                if y.hypot(x) < 4.2 { 6 } else { 0 }
            })
            .collect();
        assert_eq!(centres(&labels, height, width).unwrap(), [(6, [4, 5])]);
        let flows = label_flows(&labels, height, width).unwrap();
        for (i, &label) in labels.iter().enumerate() {
            let [dy, dx] = [flows[i], flows[i + height * width]];
            let (y, x) = (4.0 - (i / width) as f64, 5.0 - (i % width) as f64);
            if label == 0 {
                assert_eq!([dy, dx], [0.0, 0.0]);
            } else if (y, x) != (0.0, 0.0) {
                assert!((dy.hypot(dx) - 1.0).abs() < 1e-12);
                let cosine = (dy * y + dx * x) / y.hypot(x);
                assert!(cosine > 0.9, "({y}, {x}): ({dy}, {dx})");
            }
        }
    }

    #[test]
    fn neighbours_do_not_share_heat() {
        // Label 2 touches label 1; with or without it, the flows of label 1 are the same.
        let both = [1, 1, 1, 2, 2, 1, 1, 1, 2, 2, 1, 1, 0, 2, 2];
        let one = both.map(|label| if label == 1 { 1 } else { 0 });
        let flows_both = label_flows(&both, 3, 5).unwrap();
        let flows_one = label_flows(&one, 3, 5).unwrap();
        for i in (0..15).filter(|&i| one[i] == 1) {
            assert_eq!(flows_both[i], flows_one[i]);
            assert_eq!(flows_both[i + 15], flows_one[i + 15]);
        }
    }

    #[test]
    fn a_ring_has_its_centre_on_itself() {
        let ring = [1, 1, 1, 1, 0, 1, 1, 1, 1];
        // All four sides are at distance 1: the first row by row.
        assert_eq!(centres(&ring, 3, 3).unwrap(), [(1, [0, 1])]);
    }

    #[test]
    fn single_pixels_and_empty_images_stand_still() {
        assert_eq!(label_flows(&[9], 1, 1).unwrap(), [0.0, 0.0]);
        assert_eq!(label_flows(&[0; 6], 2, 3).unwrap(), [0.0; 12]);
        assert!(label_flows(&[], 0, 3).unwrap().is_empty());
        assert!(label_flows(&[0; 6], 2, 2).is_err());
    }

    #[test]
    fn one_cell_filling_the_image_flows_inward() {
        let flows = label_flows(&[4; 40 * 30], 40, 30).unwrap();
        assert!(flows[..30].iter().all(|&dy| dy > 0.0));
        assert!(flows[39 * 30..40 * 30].iter().all(|&dy| dy < 0.0));
    }
}
