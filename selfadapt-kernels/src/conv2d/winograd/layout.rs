//! How images are cut into tiles, how tiles are dealt out to tasks, and where their transforms lie.

use super::transform::{POINTS, STEP};
use crate::conv2d::geometry::Planes;

/// Values between two points beyond the tiles themselves, so that they do not share cache sets.
const SKEW: usize = 16;

/// The layout of transformed tiles.
#[derive(Clone, Copy)]
pub(super) struct TileLayout {
    pub channels: usize,
    pub tiles: usize,
}

impl TileLayout {
    /// From one point's tiles to the next point's.
    pub fn point(&self) -> usize {
        self.tiles * self.channels + SKEW
    }

    /// Values of all points.
    pub fn len(&self) -> usize {
        POINTS * self.point()
    }
}

/// How an image is cut into rows of tiles, and the rows of a batch into tasks.
#[derive(Clone, Copy)]
pub(super) struct TileRows {
    pub planes: Planes,
    /// Tiles in a row.
    pub across: usize,
    /// Rows of tiles of one image.
    pub down: usize,
}

impl TileRows {
    pub fn new(planes: Planes) -> Self {
        Self {
            planes,
            across: planes.width.div_ceil(STEP),
            down: planes.height.div_ceil(STEP),
        }
    }

    /// Rows of tiles of the whole batch.
    pub fn count(&self) -> usize {
        self.planes.batch * self.down
    }

    /// How many tile rows a task should take so that about `values` values, `channels` for each point and
    /// tile, are at hand, the tiles fill the product's register tiles, and every thread gets work.
    pub fn for_task(&self, channels: usize, values: usize, tile_rows: usize) -> usize {
        let across = self.across.max(1);
        let fitting = values / (POINTS * channels * across).max(1);
        let most = self
            .count()
            .div_ceil(2 * rayon::current_num_threads())
            .max(1);
        let wanted = fitting.clamp(1, most);
        // Too few tiles leave the transformed weights unused in the cache: at least two register tiles.
        let longest = wanted.max((2 * tile_rows).div_ceil(across).min(most));
        (wanted.div_ceil(2)..=longest)
            .min_by(|&a, &b| {
                let waste = |rows: usize| {
                    let tiles = rows * across;
                    tiles.next_multiple_of(tile_rows) as f64 / tiles as f64 - 5e-4 * rows as f64
                };
                waste(a).total_cmp(&waste(b))
            })
            .unwrap_or(1)
    }

    /// The image and the first pixel row of a row of tiles.
    pub fn place(&self, row: usize) -> (usize, usize) {
        (row / self.down, row % self.down * STEP)
    }
}
