//! Where an image is cut into tiles along one axis, and how a tile's pixels are weighted.

use crate::model::{InputSpec, Window};

/// Where one axis is cut.
pub(super) struct Cuts {
    /// Zeros before the first pixel.
    pub before: usize,
    /// Length with all zeros.
    pub padded: usize,
    /// Length of a tile.
    pub side: usize,
    /// First pixel of each tile, in the padded image.
    pub starts: Vec<usize>,
}

impl Cuts {
    pub fn new(length: usize, spec: &InputSpec) -> Self {
        let missing = length.next_multiple_of(spec.divisor) - length;
        // A whole number of output pixels, so that cropping stays exact.
        let before = (spec.margin + missing / 2) / spec.grid * spec.grid;
        let mut padded = length + missing + 2 * spec.margin;
        let tile = spec.tile;
        let (side, count) = if spec.mirrored {
            padded = padded.max(tile);
            (tile, ((2 * padded).div_ceil(tile)).max(2))
        } else if padded <= tile {
            (padded, 1)
        } else {
            let count = (1. + 2. * spec.overlap) * padded as f64 / tile as f64;
            (tile, count.ceil() as usize)
        };
        let step = (padded - side) as f64 / count.saturating_sub(1).max(1) as f64;
        let starts = (0..count)
            .map(|n| {
                let start = if n + 1 == count && n > 0 {
                    padded - side
                } else {
                    (n as f64 * step) as usize
                };
                start / spec.align * spec.align
            })
            .collect();
        Self {
            before,
            padded,
            side,
            starts,
        }
    }

    /// The sum over tiles of a tile's weights, for each output pixel.
    pub fn total(&self, window: &[f64], grid: usize) -> Vec<f64> {
        let mut total = vec![0.; self.padded / grid];
        for start in &self.starts {
            for (sum, weight) in total[start / grid..].iter_mut().zip(window) {
                *sum += weight;
            }
        }
        total
    }
}

/// Weights along a tile of `side` pixels, cut from the middle of the window of a full tile.
pub(super) fn weights(window: Window, side: usize, tile: usize) -> Vec<f64> {
    let Window::Sigmoid { inset, softness } = window;
    let full = tile.max(side);
    let middle = (full as f64 - 1.) / 2.;
    let first = full / 2 - side / 2;
    (first..first + side)
        .map(|at| {
            let distance = (at as f64 - middle).abs();
            1. / (1. + ((distance - (full as f64 / 2. - inset)) / softness).exp())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(mirrored: bool) -> InputSpec {
        InputSpec {
            channels: 1,
            divisor: 16,
            crop: 224,
            tile: 224,
            align: 1,
            grid: 1,
            margin: 8,
            overlap: 0.1,
            window: Window::Sigmoid {
                inset: 20.,
                softness: 7.5,
            },
            mirrored,
        }
    }

    #[test]
    fn cuts_are_those_of_cellpose() {
        // transforms.get_pad_yx and make_tiles of Cellpose 3.1.1.
        let cuts = Cuts::new(256, &spec(false));
        assert_eq!((cuts.before, cuts.padded, cuts.side), (8, 272, 224));
        assert_eq!(cuts.starts, [0, 48]);
        let cuts = Cuts::new(1000, &spec(false));
        assert_eq!((cuts.before, cuts.padded), (12, 1024));
        assert_eq!(cuts.starts, [0, 160, 320, 480, 640, 800]);
        let cuts = Cuts::new(100, &spec(false));
        assert_eq!((cuts.before, cuts.padded, cuts.side), (14, 128, 128));
        assert_eq!(cuts.starts, [0]);
        let cuts = Cuts::new(100, &spec(true));
        assert_eq!((cuts.padded, cuts.side), (224, 224));
        assert_eq!(cuts.starts, [0, 0]);
        let cuts = Cuts::new(500, &spec(true));
        assert_eq!(cuts.starts, [0, 76, 152, 228, 304]);
    }

    #[test]
    fn a_small_tile_takes_the_middle_of_the_window() {
        let window = Window::Sigmoid {
            inset: 20.,
            softness: 7.5,
        };
        let full = weights(window, 224, 224);
        assert_eq!(weights(window, 128, 224), full[48..176]);
        // transforms._taper_mask()[112, :2] / transforms._taper_mask()[112, 112]
        let relative = [full[0] / full[112], full[1] / full[112]];
        assert!(
            (relative[0] - 0.069_1).abs() < 1e-3 && full[112] > 0.999,
            "{relative:?}"
        );
    }

    proptest! {
        #[test]
        fn tiles_cover_every_pixel(length in 1usize..3000, mirrored: bool, overlap in 0.05f64..0.5, grid in 1usize..3) {
            let spec = InputSpec { overlap, grid, align: grid, ..spec(mirrored) };
            let cuts = Cuts::new(length, &spec);
            let mut covered = vec![false; cuts.padded];
            for &start in &cuts.starts {
                covered[start..start + cuts.side].fill(true);
            }
            prop_assert!(covered.iter().all(|&c| c));
            prop_assert!(cuts.before + length <= cuts.padded && cuts.before.is_multiple_of(grid));
        }
    }
}
