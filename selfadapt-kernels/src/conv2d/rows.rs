//! Packs image rows of planes `[B, C, H, W]` into channel-last working memory, a square of pixels by channels
//! at a time, applying the input's affine, second term and ReLU on the way.

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
        let lanes_written = simd.first(written);
        for x in (0..self.columns).step_by(S::F32_LANES) {
            let count = (self.columns - x).min(S::F32_LANES);
            // SAFETY: row `i < channels` spans `offset + i * plane ..+ columns`, asserted inside `values`.
            let mut block = unsafe {
                let from = self.input.values.as_ptr().add(row.offset() + x);
                load_rows(simd, from, plane, channels, count)
            };
            // SAFETY: `second` was asserted to hold the same rows.
            unsafe { change(simd, self.input, row, x, count, &mut block) };
            simd.transpose(&mut block);
            for (i, vector) in block.iter().take(S::F32_LANES).enumerate() {
                if i < count {
                    // SAFETY: pixel `x + i < columns` spans `(x + i) * pitch ..+ written`, asserted inside `to`.
                    unsafe {
                        let to = self.to.as_mut_ptr().add((x + i) * self.pitch);
                        if written == S::F32_LANES {
                            simd.store(to, *vector);
                        } else {
                            simd.mask_store_ptr_f32s(lanes_written, to, *vector);
                        }
                    }
                }
            }
        }
    }
}

/// Loads `count` values of each of `rows` rows, `pitch` apart; everything else is zero.
///
/// # Safety
/// `from + i * pitch ..+ count` must be readable for every `i < rows`.
#[inline(always)]
pub(crate) unsafe fn load_rows<S: Vector>(
    simd: S,
    from: *const f32,
    pitch: usize,
    rows: usize,
    count: usize,
) -> Block<S> {
    let mut block = [simd.splat_f32s(0.0); MAX_LANES];
    let lanes = simd.first(count);
    for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
        if i < rows {
            // SAFETY: the caller vouches for row `i`, of which only `count` values are read.
            *vector = unsafe {
                let from = from.add(i * pitch);
                if count == S::F32_LANES {
                    simd.load(from)
                } else {
                    simd.mask_load_ptr_f32s(lanes, from)
                }
            };
        }
    }
    block
}

/// Applies what `input` does to its values to the columns `x..x + count` of rows of channels; rows without
/// a channel stay zero.
///
/// # Safety
/// The second term, if any, must hold those columns of those rows.
#[inline(always)]
unsafe fn change<S: Vector>(
    simd: S,
    input: &Input,
    row: RowOfChannels,
    x: usize,
    count: usize,
    block: &mut Block<S>,
) {
    let channels = row.channels(S::F32_LANES);
    if let Some(affine) = input.affine {
        let (scale, shift) = affine.at(row.planes, row.image, row.channel, channels);
        for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
            if i < channels {
                let (scale, shift) = (simd.splat_f32s(scale[i]), simd.splat_f32s(shift[i]));
                *vector = simd.fma(*vector, scale, shift);
            }
        }
    }
    if let Some(second) = input.second {
        let scale = &second.scale[row.channel..row.channel + channels];
        // SAFETY: the caller vouches for the rows of the second term.
        let values = unsafe {
            let from = second.values.as_ptr().add(row.offset() + x);
            load_rows(simd, from, row.planes.plane(), channels, count)
        };
        for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
            if i < channels {
                *vector = simd.fma(values[i], simd.splat_f32s(scale[i]), *vector);
            }
        }
    }
    if input.relu {
        let zero = simd.splat_f32s(0.0);
        for vector in block.iter_mut().take(S::F32_LANES) {
            *vector = simd.max_f32s(*vector, zero);
        }
    }
}
