//! Between strips of rows and transformed tiles `[point][tile][channel]`, one vector of channels at a time.

use super::transform::{self, POINTS, SIDE, STEP};
use crate::conv2d::geometry::Planes;
use crate::conv2d::operand::Input;
use crate::conv2d::rows::{PackRow, RowOfChannels};
use crate::simd_vector::{Kernel, Vector};
use std::ops::Range;

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

/// Which pixels around an output tile a transform reads.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Window {
    /// The 6 x 6 input pixels, one beyond the tile on each side: `B^T d B`.
    Input,
    /// The 4 x 4 output pixels: `A y A^T`.
    Gradient,
}

impl Window {
    fn side(self) -> usize {
        match self {
            Window::Input => SIDE,
            Window::Gradient => STEP,
        }
    }

    fn border(self) -> usize {
        (self.side() - STEP) / 2
    }

    /// Values of the working strip of one vector of channels.
    pub fn strip_len(self, across: usize, lanes: usize) -> usize {
        self.side() * (across * STEP + 2 * self.border()) * lanes
    }
}

/// Rows of tiles of one tensor, to be packed and transformed.
pub(super) struct TransformRows<'a> {
    pub input: &'a Input<'a>,
    pub rows: TileRows,
    pub range: Range<usize>,
    pub window: Window,
    pub layout: TileLayout,
}

/// Packs and transforms rows of tiles into `to`, all channels (padded to whole vectors) of all points.
///
/// `strip` is working memory of [`Window::strip_len`].
#[inline(always)]
pub(super) fn transform_rows<S: Vector>(
    simd: S,
    from: TransformRows,
    strip: &mut [f32],
    to: &mut [f32],
) {
    let TransformRows {
        input,
        rows,
        range,
        window,
        layout,
    } = from;
    let border = window.border();
    let width = rows.across * STEP + 2 * border;
    let planes = rows.planes;
    let inside = planes.width;
    for channel in (0..planes.channels).step_by(S::F32_LANES) {
        for (i, row) in range.clone().enumerate() {
            let (image, top) = rows.place(row);
            for (r, to) in strip
                .chunks_exact_mut(width * S::F32_LANES)
                .take(window.side())
                .enumerate()
            {
                let y = (top + r).wrapping_sub(border);
                if y >= planes.height {
                    to.fill(0.0);
                    continue;
                }
                to[..border * S::F32_LANES].fill(0.0);
                to[(border + inside) * S::F32_LANES..].fill(0.0);
                simd.enter(PackRow {
                    input,
                    row: RowOfChannels {
                        planes,
                        image,
                        channel,
                        y,
                    },
                    columns: inside,
                    to: &mut to[border * S::F32_LANES..],
                    pitch: S::F32_LANES,
                    fill: true,
                });
            }
            let from = TransformRow {
                strip,
                width,
                across: rows.across,
                to: &mut to[i * rows.across * layout.channels + channel..],
                layout,
            };
            match window {
                Window::Input => simd.enter(InputRow(from)),
                Window::Gradient => simd.enter(GradientRow(from)),
            }
        }
    }
}

/// One row of tiles of one vector of channels: from a strip `[y][x][lane]`.
struct TransformRow<'a> {
    strip: &'a [f32],
    width: usize,
    across: usize,
    to: &'a mut [f32],
    layout: TileLayout,
}

impl TransformRow<'_> {
    /// Checks the sizes that the transforms rely on.
    fn check<S: Vector>(&self, window: Window) {
        let columns = self.across * STEP + 2 * window.border();
        assert!(self.across > 0 && columns <= self.width);
        assert!(window.side() * self.width * S::F32_LANES <= self.strip.len());
        let last = (POINTS - 1) * self.layout.point() + (self.across - 1) * self.layout.channels;
        assert!(last + S::F32_LANES <= self.to.len());
    }
}

struct InputRow<'a>(TransformRow<'a>);

impl Kernel for InputRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let InputRow(row) = self;
        row.check::<S>(Window::Input);
        let pitch = row.width * S::F32_LANES;
        // SAFETY: `x` stays below `4 * across + 2 <= width` and there are six rows (checked above).
        let column = |x: usize| unsafe {
            let from = row.strip.as_ptr().add(x * S::F32_LANES);
            transform::input(
                simd,
                std::array::from_fn(|y| simd.load(from.add(y * pitch))),
            )
        };
        let zero = simd.splat_f32s(0.0);
        // columns[x][y]: transformed along y; two of them are shared with the next tile.
        let mut columns = [[zero; SIDE]; SIDE];
        columns[4] = column(0);
        columns[5] = column(1);
        for tile in 0..row.across {
            columns[0] = columns[4];
            columns[1] = columns[5];
            for (x, values) in columns.iter_mut().enumerate().skip(2) {
                *values = column(STEP * tile + x);
            }
            for y in 0..SIDE {
                let values = transform::input(simd, columns.map(|column| column[y]));
                for (x, value) in values.into_iter().enumerate() {
                    let at = (y * SIDE + x) * row.layout.point() + tile * row.layout.channels;
                    // SAFETY: the last point's last tile was checked to have room for a vector.
                    unsafe { simd.store(row.to.as_mut_ptr().add(at), value) };
                }
            }
        }
    }
}

struct GradientRow<'a>(TransformRow<'a>);

impl Kernel for GradientRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let GradientRow(row) = self;
        row.check::<S>(Window::Gradient);
        let pitch = row.width * S::F32_LANES;
        for tile in 0..row.across {
            // SAFETY: `x` stays below `4 * across <= width` and there are four rows (checked above).
            let columns: [_; STEP] = std::array::from_fn(|x| unsafe {
                let from = row.strip.as_ptr().add((STEP * tile + x) * S::F32_LANES);
                transform::gradient(
                    simd,
                    std::array::from_fn(|y| simd.load(from.add(y * pitch))),
                )
            });
            for y in 0..SIDE {
                let values = transform::gradient(simd, columns.map(|column| column[y]));
                for (x, value) in values.into_iter().enumerate() {
                    let at = (y * SIDE + x) * row.layout.point() + tile * row.layout.channels;
                    // SAFETY: the last point's last tile was checked to have room for a vector.
                    unsafe { simd.store(row.to.as_mut_ptr().add(at), value) };
                }
            }
        }
    }
}

/// Turns one row of summed tiles of one vector of channels into four rows of pixels `[y][x][lane]`.
pub(super) struct OutputRow<'a> {
    pub from: &'a [f32],
    pub layout: TileLayout,
    pub across: usize,
    pub to: &'a mut [f32],
}

impl Kernel for OutputRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let (point, tile_pitch) = (self.layout.point(), self.layout.channels);
        let pitch = self.across * STEP * S::F32_LANES;
        assert!(self.across > 0);
        assert!(
            (POINTS - 1) * point + (self.across - 1) * tile_pitch + S::F32_LANES <= self.from.len()
        );
        assert!(STEP * pitch <= self.to.len());
        for tile in 0..self.across {
            // columns[x][y]: transformed along y.
            // SAFETY: the last point's last tile was checked to hold a whole vector.
            let columns: [_; SIDE] = std::array::from_fn(|x| unsafe {
                let from = self.from.as_ptr().add(x * point + tile * tile_pitch);
                let values = std::array::from_fn(|y| simd.load(from.add(y * SIDE * point)));
                transform::output(simd, values)
            });
            for y in 0..STEP {
                let values = transform::output(simd, columns.map(|column| column[y]));
                for (x, value) in values.into_iter().enumerate() {
                    let at = y * pitch + (STEP * tile + x) * S::F32_LANES;
                    // SAFETY: four rows of `4 * across` pixels were checked to fit.
                    unsafe { simd.store(self.to.as_mut_ptr().add(at), value) };
                }
            }
        }
    }
}
