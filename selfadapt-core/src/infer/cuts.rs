//! Where an image is cut into tiles along one axis, and how a tile's pixels are weighted.

use crate::model::{InputSpec, Window};

/// Where one axis is cut.
pub(super) struct Cuts {
    /// Pixels added before the first one.
    pub before: usize,
    /// Length with all that is added.
    pub padded: usize,
    /// Whether the image is mirrored into what is added, which else is zero.
    pub mirrored: bool,
    /// Length of a tile.
    pub side: usize,
    /// First pixel of each tile, in the padded image.
    pub starts: Vec<usize>,
}

impl Cuts {
    pub fn new(length: usize, spec: &InputSpec) -> Self {
        if spec.window == Window::Spline {
            return Self::even(length, spec);
        }
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
            mirrored: false,
            side,
            starts,
        }
    }

    /// The sum over tiles of their weights, for each output pixel.
    pub fn total(&self, windows: &[Vec<f64>], spec: &InputSpec) -> Vec<f64> {
        if spec.window == Window::Spline {
            // Splines add up to 1 within 2e-4, and what they lack the original lacks too.
            return vec![1.; self.padded / spec.grid];
        }
        let mut total = vec![0.; self.padded / spec.grid];
        for (start, window) in self.starts.iter().zip(windows) {
            for (sum, weight) in total[start / spec.grid..].iter_mut().zip(window) {
                *sum += weight;
            }
        }
        total
    }

    /// `tile_image` of deepcell-toolbox 0.12.1, and `Application._tile_input` for small images.
    fn even(length: usize, spec: &InputSpec) -> Self {
        let tile = spec.tile;
        let step = tile - shared(spec);
        let count = length.saturating_sub(tile).div_ceil(step) + 1;
        let padded = tile + step * (count - 1);
        let added = padded - length;
        let mirrored = length < tile;
        let before = if mirrored {
            added / 2
        } else {
            added.div_ceil(2)
        };
        Self {
            before: before / spec.grid * spec.grid,
            padded,
            mirrored,
            side: tile,
            starts: (0..count).map(|n| n * step).collect(),
        }
    }

    /// The weights along each tile, in output pixels.
    pub fn windows(&self, spec: &InputSpec) -> Vec<Vec<f64>> {
        let (side, tile) = (self.side / spec.grid, spec.tile / spec.grid);
        let Window::Sigmoid { inset, softness } = spec.window else {
            let slope = spline(shared(spec) / spec.grid);
            let last = self.starts.len() - 1;
            let window = |n: usize| {
                let mut window = vec![1.; side];
                if n > 0 {
                    window.iter_mut().zip(&slope).for_each(|(w, s)| *w = *s);
                }
                if n < last {
                    window
                        .iter_mut()
                        .rev()
                        .zip(&slope)
                        .for_each(|(w, s)| *w = *s);
                }
                window
            };
            return (0..=last).map(window).collect();
        };
        vec![sigmoid((inset, softness), side, tile); self.starts.len()]
    }
}

/// Pixels that two neighbours have in common: an even number, and at most half a tile.
fn shared(spec: &InputSpec) -> usize {
    let step = (spec.tile as f64 * (1. - spec.overlap) / 2.).ceil() as usize * 2;
    spec.tile - step.clamp(spec.tile.div_ceil(2).max(1), spec.tile)
}

/// The rising half of `spline_window` of deepcell-toolbox: two parabolas that meet at 1/2.
fn spline(length: usize) -> Vec<f64> {
    let rise = |n: usize| {
        let at = (2 * n + 1) as f64 / (2 * length) as f64;
        if n < length / 2 {
            2. * at * at
        } else {
            1. - 2. * (at - 1.) * (at - 1.)
        }
    };
    let most = length.checked_sub(1).map_or(1., rise);
    (0..length).map(|n| rise(n) / most).collect()
}

/// Weights along a tile of `side` pixels, cut from the middle of the window of a full tile.
fn sigmoid((inset, softness): (f64, f64), side: usize, tile: usize) -> Vec<f64> {
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
        let window = (20., 7.5);
        let full = sigmoid(window, 224, 224);
        assert_eq!(sigmoid(window, 128, 224), full[48..176]);
        // transforms._taper_mask()[112, :2] / transforms._taper_mask()[112, 112]
        let relative = [full[0] / full[112], full[1] / full[112]];
        assert!(
            (relative[0] - 0.069_1).abs() < 1e-3 && full[112] > 0.999,
            "{relative:?}"
        );
    }

    fn even() -> InputSpec {
        InputSpec {
            tile: 256,
            overlap: 0.25,
            window: Window::Spline,
            margin: 0,
            divisor: 32,
            ..spec(false)
        }
    }

    #[test]
    fn even_cuts_are_those_of_deepcell() {
        // tile_image of deepcell-toolbox 0.12.1; the first two are recorded in the assets.
        for (length, before, padded, starts) in [
            (512, 64, 640, vec![0, 192, 384]),
            (1024, 0, 1024, vec![0, 192, 384, 576, 768]),
            (256, 0, 256, vec![0]),
            (257, 96, 448, vec![0, 192]),
        ] {
            let cuts = Cuts::new(length, &even());
            assert_eq!((cuts.before, cuts.padded, cuts.side), (before, padded, 256));
            assert_eq!(cuts.starts, starts);
            assert!(!cuts.mirrored);
        }
        let cuts = Cuts::new(101, &even());
        assert_eq!((cuts.before, cuts.padded, cuts.mirrored), (77, 256, true));
    }

    #[test]
    fn splines_of_neighbours_add_up_to_one() {
        let windows = Cuts::new(600, &even()).windows(&even());
        assert_eq!(windows.len(), 3);
        let [first, middle, last] = [0, 1, 2].map(|n| &windows[n]);
        assert!(first[..192].iter().chain(&last[64..]).all(|&w| w == 1.));
        for n in 0..64 {
            let sum = first[192 + n] + middle[n];
            assert!((1. ..1.000_2).contains(&sum), "{n}: {sum}");
            assert_eq!(middle[192 + n], first[192 + n]);
            assert_eq!(last[n], middle[n]);
        }
        assert_eq!(Cuts::new(256, &even()).windows(&even()), [vec![1.; 256]]);
    }

    proptest! {
        #[test]
        fn even_tiles_cover_every_pixel(length in 1usize..3000, overlap in 0f64..0.6, tile in 1usize..9) {
            let spec = InputSpec { overlap, tile: 32 * tile, ..even() };
            let cuts = Cuts::new(length, &spec);
            prop_assert!(cuts.before + length <= cuts.padded);
            prop_assert_eq!(cuts.starts.last().map(|start| start + cuts.side), Some(cuts.padded));
            prop_assert!(cuts.starts.windows(2).all(|pair| pair[1] <= pair[0] + cuts.side));
        }

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
