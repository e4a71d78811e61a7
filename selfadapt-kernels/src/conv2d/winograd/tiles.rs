//! Between strips of rows and transformed tiles `[point][tile][channel]`, one vector of channels at a time.

use super::layout::{TileLayout, TileRows};
use super::transform::{self, POINTS, SIDE, STEP};
use crate::conv2d::operand::Input;
use crate::conv2d::rows::{PackRow, RowOfChannels};
use crate::simd_vector::{Kernel, Vector};
use std::ops::Range;

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
        let zero = simd.splat_f32s(0.0);
        // columns[x][y]: transformed along y; two of them are shared with the next tile.
        let mut columns = [[zero; SIDE]; SIDE];
        for (x, values) in columns[4..].iter_mut().enumerate() {
            // SAFETY: there are six rows of `width >= 2` pixels (checked above).
            *values =
                unsafe { input_column(simd, row.strip.as_ptr().add(x * S::F32_LANES), pitch) };
        }
        for tile in 0..row.across {
            columns[0] = columns[4];
            columns[1] = columns[5];
            for (x, values) in columns.iter_mut().enumerate().skip(2) {
                let x = STEP * tile + x;
                // SAFETY: `x < 4 * across + 2 <= width`, and there are six rows (checked above).
                *values =
                    unsafe { input_column(simd, row.strip.as_ptr().add(x * S::F32_LANES), pitch) };
            }
            for y in 0..SIDE {
                let values = transform::input(simd, transform::across(&columns, y));
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
        let zero = simd.splat_f32s(0.0);
        for tile in 0..row.across {
            let mut columns = [[zero; SIDE]; STEP];
            for (x, column) in columns.iter_mut().enumerate() {
                let x = STEP * tile + x;
                // SAFETY: `x < 4 * across <= width`, and there are four rows (checked above).
                let values = unsafe {
                    transform::load_column(simd, row.strip.as_ptr().add(x * S::F32_LANES), pitch)
                };
                *column = transform::gradient(simd, values);
            }
            for y in 0..SIDE {
                let values = transform::gradient(simd, transform::across(&columns, y));
                for (x, value) in values.into_iter().enumerate() {
                    let at = (y * SIDE + x) * row.layout.point() + tile * row.layout.channels;
                    // SAFETY: the last point's last tile was checked to have room for a vector.
                    unsafe { simd.store(row.to.as_mut_ptr().add(at), value) };
                }
            }
        }
    }
}

/// Loads six vectors, `pitch` values apart, and transforms them.
///
/// # Safety
/// The vectors must be readable.
#[inline(always)]
unsafe fn input_column<S: Vector>(simd: S, from: *const f32, pitch: usize) -> [S::f32s; SIDE] {
    // SAFETY: the caller vouches for the vectors.
    transform::input(simd, unsafe { transform::load_column(simd, from, pitch) })
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
        let zero = simd.splat_f32s(0.0);
        for tile in 0..self.across {
            // columns[x][y]: transformed along y.
            let mut columns = [[zero; STEP]; SIDE];
            for (x, column) in columns.iter_mut().enumerate() {
                let at = x * point + tile * tile_pitch;
                // SAFETY: the last point's last tile was checked to hold a whole vector.
                let values = unsafe {
                    transform::load_column(simd, self.from.as_ptr().add(at), SIDE * point)
                };
                *column = transform::output(simd, values);
            }
            for y in 0..STEP {
                let values = transform::output(simd, transform::across(&columns, y));
                for (x, value) in values.into_iter().enumerate() {
                    let at = y * pitch + (STEP * tile + x) * S::F32_LANES;
                    // SAFETY: four rows of `4 * across` pixels were checked to fit.
                    unsafe { simd.store(self.to.as_mut_ptr().add(at), value) };
                }
            }
        }
    }
}
