//! Packs image rows of planes `[B, C, H, W]` into channel-last working memory, a square of pixels by channels
//! at a time, applying the input's affine, second term and ReLU on the way.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over a block's vectors are written alike, whether one block is indexed or two"
)]

use super::geometry::Planes;
use super::operand::Input;
use crate::simd_vector::{Block, Kernel, MAX_LANES, Vector};

/// A row of up to one vector of channels of a tensor of planes.
#[derive(Clone, Copy)]
pub(crate) struct RowOfChannels {
    pub planes: Planes,
    pub image: usize,
    pub channel: usize,
    pub y: usize,
}

impl RowOfChannels {
    /// How many channels there are from the first on, at most `lanes`.
    #[inline(always)]
    pub fn channels(&self, lanes: usize) -> usize {
        (self.planes.channels - self.channel).min(lanes)
    }

    /// Where the row of the first channel begins.
    #[inline(always)]
    pub fn offset(&self) -> usize {
        self.planes.row(self.image, self.channel, self.y)
    }
}

/// Packs the first `columns` pixels of a row: channel `i` of pixel `x` goes to `to[x * pitch + i]`.
pub(crate) struct PackRow<'a> {
    pub input: &'a Input<'a>,
    pub row: RowOfChannels,
    pub columns: usize,
    pub to: &'a mut [f32],
    pub pitch: usize,
    /// Whether lanes without a channel are written as zeros, or left alone.
    pub fill: bool,
}

impl Kernel for PackRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let (row, plane) = (self.row, self.row.planes.plane());
        let channels = row.channels(S::F32_LANES);
        let written = if self.fill { S::F32_LANES } else { channels };
        if self.columns == 0 {
            return;
        }
        assert!(self.columns <= row.planes.width && channels > 0);
        let span = (channels - 1) * plane + self.columns;
        assert!(row.offset() + span <= self.input.values.len());
        if let Some(second) = self.input.second {
            assert!(row.offset() + span <= second.values.len());
        }
        assert!((self.columns - 1) * self.pitch + written <= self.to.len());
        let to = self.to.as_mut_ptr();
        for x in (0..self.columns).step_by(S::F32_LANES) {
            let square = Square::at::<S>(x, self.columns, channels);
            // SAFETY: rows `i < channels` span `offset + i * plane ..+ columns`, asserted inside `values` and
            // `second`; pixels `x < columns` span `x * pitch ..+ written`, asserted inside `to`.
            unsafe {
                if square.is_whole::<S>() {
                    self.square::<S, true>(simd, square, written, to);
                } else {
                    self.square::<S, false>(simd, square, written, to);
                }
            }
        }
    }
}

impl PackRow<'_> {
    /// Packs one square of the row that goes to `to`; `WHOLE` if it has all of its rows and columns.
    ///
    /// # Safety
    /// The square's rows must be inside the input, its pixels with `written` values each inside what `to` points to.
    #[inline(always)]
    unsafe fn square<S: Vector, const WHOLE: bool>(
        &self,
        simd: S,
        square: Square,
        written: usize,
        to: *mut f32,
    ) {
        // SAFETY: as the caller vouches for.
        unsafe {
            let from = self.input.values.as_ptr();
            let from = from.add(self.row.offset() + square.x);
            let plane = self.row.planes.plane();
            let mut block = load_rows::<S, WHOLE>(simd, from, plane, square.rows, square.columns);
            change::<S, WHOLE>(simd, self.input, self.row, square, &mut block);
            simd.transpose(&mut block);
            let to = to.add(square.x * self.pitch);
            let lanes = simd.first(written);
            for i in 0..S::F32_LANES {
                if WHOLE {
                    simd.store(to.add(i * self.pitch), block[i]);
                } else if i < square.columns {
                    simd.mask_store_ptr_f32s(lanes, to.add(i * self.pitch), block[i]);
                }
            }
        }
    }
}

/// Rows of channels by columns of pixels that are transposed at once, up to `F32_LANES` each.
#[derive(Clone, Copy)]
pub(crate) struct Square {
    pub x: usize,
    pub rows: usize,
    pub columns: usize,
    /// How many of the first columns belong to the square before it as well.
    pub again: usize,
}

impl Square {
    /// The square of the column `x`, of `columns`: the last one reaches back instead of being narrower, for
    /// whole squares are loaded, transposed and stored without masks.
    #[inline(always)]
    pub fn at<S: Vector>(x: usize, columns: usize, rows: usize) -> Self {
        let start = x.min(columns.saturating_sub(S::F32_LANES));
        Self {
            x: start,
            rows,
            columns: (columns - start).min(S::F32_LANES),
            again: x - start,
        }
    }

    /// Whether it has `F32_LANES` rows and columns.
    #[inline(always)]
    pub fn is_whole<S: Vector>(&self) -> bool {
        self.rows == S::F32_LANES && self.columns == S::F32_LANES
    }
}

/// Loads `count` values of each of `rows` rows, `pitch` apart; everything else is zero. `WHOLE`: `F32_LANES` of both.
///
/// # Safety
/// `from + i * pitch ..+ count` must be readable for every `i < rows`.
#[inline(always)]
pub(crate) unsafe fn load_rows<S: Vector, const WHOLE: bool>(
    simd: S,
    from: *const f32,
    pitch: usize,
    rows: usize,
    count: usize,
) -> Block<S> {
    let mut block = [simd.splat_f32s(0.0); MAX_LANES];
    let lanes = simd.first(count);
    for i in 0..S::F32_LANES {
        // SAFETY: the caller vouches for row `i`, of which only `count` values are read.
        unsafe {
            if WHOLE || (i < rows && count == S::F32_LANES) {
                block[i] = simd.load(from.add(i * pitch));
            } else if i < rows {
                block[i] = simd.mask_load_ptr_f32s(lanes, from.add(i * pitch));
            }
        }
    }
    block
}

/// Applies what `input` does to its values to a square of rows of channels; rows without a channel stay zero.
///
/// # Safety
/// The second term, if any, must hold the square.
#[inline(always)]
unsafe fn change<S: Vector, const WHOLE: bool>(
    simd: S,
    input: &Input,
    row: RowOfChannels,
    square: Square,
    block: &mut Block<S>,
) {
    // A number that the compiler knows spares the checks of indices below.
    let channels = if WHOLE { S::F32_LANES } else { square.rows };
    if let Some(affine) = input.affine {
        let (scale, shift) = affine.at(row.planes, row.image, row.channel, channels);
        for i in 0..S::F32_LANES {
            if WHOLE || i < channels {
                let (scale, shift) = (simd.splat_f32s(scale[i]), simd.splat_f32s(shift[i]));
                block[i] = simd.fma(block[i], scale, shift);
            }
        }
    }
    if let Some(second) = input.second {
        let scale = &second.scale[row.channel..row.channel + channels];
        // SAFETY: the caller vouches for the rows of the second term.
        let values = unsafe {
            let from = second.values.as_ptr().add(row.offset() + square.x);
            load_rows::<S, WHOLE>(simd, from, row.planes.plane(), channels, square.columns)
        };
        for i in 0..S::F32_LANES {
            if WHOLE || i < channels {
                block[i] = simd.fma(values[i], simd.splat_f32s(scale[i]), block[i]);
            }
        }
    }
    if input.relu {
        let zero = simd.splat_f32s(0.0);
        for i in 0..S::F32_LANES {
            block[i] = simd.max_f32s(block[i], zero);
        }
    }
}
