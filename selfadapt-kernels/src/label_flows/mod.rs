//! Turns an instance image into the unit flows that a network should predict for it.
//!
//! Heat spreads from each cell's centre over the cell's own pixels; the flow is the direction in which it
//! grows. With `T = 0` at first, each round does
//! `T[centre] += 1; T[q] <- 1/9 * sum of T over the 3 x 3 pixels around q` for all pixels `q` of the cell at
//! once, `T` being 0 outside. After `2 * (h + 2 + w + 2)` rounds, `h` by `w` being the cell's bounding box,
//! `F(q) = (T[below q] - T[above q], T[right of q] - T[left of q])` is divided by `1e-60 + |F(q)|`.
//! The centre is the cell's pixel nearest to the mean of its pixels, the first such pixel row by row.
//!
//! Cellpose 3.1.1's `dynamics.masks_to_flows_cpu`, sums in the same order: where `F` all but cancels, its
//! direction is that of the rounding errors.

mod cpu;

pub(crate) use cpu::CellFlows;

use candle_core::Result;
use rayon::prelude::*;

use crate::objects::{expect_size, objects};

/// Unit flows `[2, height, width]`, `(dy, dx)`, of the instance image `labels` `[height, width]`; 0 outside of
/// instances.
///
/// Labels may have gaps and any size. Instances are independent, so the result is the same for any number
/// of threads.
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn label_flows(labels: &[u32], height: usize, width: usize) -> Result<Vec<f64>> {
    expect_size("label_flows", "labels", labels.len(), [1, height, width])?;
    let objects = objects(labels, height, width)?;
    let cells: Vec<CellFlows> = objects
        .par_iter()
        .map(|object| CellFlows::new(labels, width, object))
        .collect();
    let mut flows = vec![0.0; 2 * height * width];
    let (dy, dx) = flows.split_at_mut(height * width);
    for cell in cells {
        for (pixel, flow) in cell.pixels() {
            [dy[pixel], dx[pixel]] = flow;
        }
    }
    Ok(flows)
}

/// Centre `[y, x]` of each instance in pixels of the image, by ascending label.
///
/// (Cellpose's CPU function returns them relative to each instance's bounding box.)
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn centres(labels: &[u32], height: usize, width: usize) -> Result<Vec<(u32, [usize; 2])>> {
    let objects = objects(labels, height, width)?;
    Ok(objects
        .par_iter()
        .map(|object| (object.label, cpu::centre(labels, width, object)))
        .collect())
}
