//! Keeps the best of star polygons that overlap: StarDist's non-maximum suppression.
//!
//! A star polygon has its vertices at `distance[k]` from its centre along the angles `2 pi k / rays`, measured
//! from +x towards +y (down), each cut to whole pixels. Best first, a polygon that is still there removes every
//! later one for which `area(intersection) / min(area, area) > threshold`. This is
//! `c_non_max_suppression_inds` of stardist 0.9.1; intersections have their corners at whole pixels, as
//! the Clipper library that it calls leaves them.

mod intersection;
mod polygon;
#[cfg(test)]
mod tests;

use candle_core::{Result, bail};
use rayon::prelude::*;

use polygon::Polygon;

/// Neighbours from which the work is shared among threads.
const WORTH_SHARING: usize = 16;

/// Star polygons: where they are and how far they reach.
#[derive(Clone, Copy, Debug)]
pub struct Stars<'a> {
    /// Centres (y, x) in pixels.
    pub centres: &'a [[f32; 2]],
    /// Distances `[stars, rays]` in pixels.
    pub distances: &'a [f32],
    /// Rays of each star, at least 3.
    pub rays: usize,
}

impl Stars<'_> {
    pub(crate) fn check(&self, op: &str) -> Result<()> {
        let Self { centres, rays, .. } = *self;
        if rays < 3 {
            bail!("{op}: expected at least 3 rays, found {rays}");
        }
        if centres.len().checked_mul(rays) != Some(self.distances.len()) {
            bail!(
                "{op}: expected {rays} distances for each of {} stars, found {}",
                centres.len(),
                self.distances.len()
            );
        }
        let finite = |value: &f32| value.is_finite();
        if !self.distances.iter().all(finite) || !centres.iter().flatten().all(finite) {
            bail!("{op}: expected finite centres and distances");
        }
        Ok(())
    }
}

/// The order in which [`suppress`] wants stars: most probable first. Equal ones are taken last first, as
/// NumPy's `argsort(probability)[::-1]` does where it sorts stably.
pub fn best_first(probabilities: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).rev().collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    order
}

/// Indices of the stars that survive, in their order, which must be best first.
///
/// # Errors
/// If sizes do not belong together, or a number is not finite, beyond 2^24 pixels, or wider than 2^19.
pub fn suppress(stars: Stars<'_>, threshold: f32) -> Result<Vec<usize>> {
    const OP: &str = "star_nms";
    stars.check(OP)?;
    let polygons = polygon::polygons(&stars);
    if let Some(far) = polygons.iter().position(Polygon::is_out_of_range) {
        bail!(
            "{OP}: star {far} is wider than 2^19 pixels or farther than 2^24; the distances cannot be right"
        );
    }
    let mut grid = Grid::new(&polygons);
    let mut suppressed = vec![false; polygons.len()];
    let mut near = Vec::new();
    for best in 0..polygons.len() {
        if suppressed[best] {
            continue;
        }
        let polygon = &polygons[best];
        grid.near(polygon, &mut near, &suppressed, best);
        near.retain(|&other| polygon.may_exceed(&polygons[other as usize], threshold));
        let loses =
            |&other: &u32| intersection::overlap(polygon, &polygons[other as usize]) > threshold;
        if near.len() < WORTH_SHARING {
            for other in near.iter().filter(|other| loses(other)) {
                suppressed[*other as usize] = true;
            }
        } else {
            let lost: Vec<bool> = near.par_iter().with_min_len(4).map(loses).collect();
            for (other, lost) in near.iter().zip(lost) {
                suppressed[*other as usize] |= lost;
            }
        }
    }
    Ok((0..polygons.len())
        .filter(|&index| !suppressed[index])
        .collect())
}

/// Polygons by the square of the image in which the middle of their bounding box lies.
struct Grid {
    side: i64,
    origin: [i64; 2],
    columns: i64,
    cells: Vec<Vec<u32>>,
    /// Half of the largest bounding box, rounded up.
    reach: [i64; 2],
    bounds: Vec<polygon::Bounds>,
}

impl Grid {
    fn new(polygons: &[Polygon]) -> Self {
        let bounds: Vec<polygon::Bounds> = polygons.iter().map(|p| p.bounds).collect();
        let mut reach = [0; 2];
        let (mut low, mut high) = ([i64::MAX; 2], [i64::MIN; 2]);
        let mut extents = 0;
        for b in &bounds {
            for axis in 0..2 {
                reach[axis] = reach[axis].max((b.high[axis] - b.low[axis]) / 2 + 1);
                extents += b.high[axis] - b.low[axis];
                let middle = (b.low[axis] + b.high[axis]).div_euclid(2);
                low[axis] = low[axis].min(middle);
                high[axis] = high[axis].max(middle);
            }
        }
        if bounds.is_empty() {
            (low, high) = ([0; 2], [0; 2]);
        }
        // About an object a cell, and never more cells than a few for each polygon.
        let typical = extents / (2 * bounds.len().max(1) as i64);
        let area = (high[0] - low[0] + 1) as f64 * (high[1] - low[1] + 1) as f64;
        let sparse = (area / (4 * bounds.len().max(1)) as f64).sqrt() as i64;
        let side = typical.max(sparse).max(4);
        let columns = (high[0] - low[0]) / side + 1;
        let rows = (high[1] - low[1]) / side + 1;
        let mut grid = Self {
            side,
            origin: low,
            columns,
            cells: vec![Vec::new(); (columns * rows) as usize],
            reach,
            bounds,
        };
        for index in 0..polygons.len() {
            let b = grid.bounds[index];
            let cell = |axis: usize| {
                ((b.low[axis] + b.high[axis]).div_euclid(2) - grid.origin[axis]) / grid.side
            };
            let at = (cell(1) * grid.columns + cell(0)) as usize;
            grid.cells[at].push(index as u32);
        }
        grid
    }

    /// Later polygons that are not suppressed and whose bounding box touches that of `polygon`. Forgets
    /// those that cannot be asked for again.
    fn near(&mut self, polygon: &Polygon, near: &mut Vec<u32>, suppressed: &[bool], best: usize) {
        near.clear();
        let rows = self.cells.len() as i64 / self.columns;
        let range = |axis: usize, count: i64| {
            let first = polygon.bounds.low[axis] - self.reach[axis] - self.origin[axis];
            let last = polygon.bounds.high[axis] + self.reach[axis] - self.origin[axis];
            let cell = |at: i64| at.div_euclid(self.side).clamp(0, count - 1);
            cell(first)..=cell(last)
        };
        for row in range(1, rows) {
            for column in range(0, self.columns) {
                let cell = &mut self.cells[(row * self.columns + column) as usize];
                cell.retain(|&other| other as usize > best && !suppressed[other as usize]);
                near.extend(
                    cell.iter()
                        .filter(|&&other| self.bounds[other as usize].touch(&polygon.bounds)),
                );
            }
        }
    }
}
