//! Moves image rows between planes `[B, C, H, W]` and channel-last working memory, a square of pixels by
//! channels at a time, applying the input's affine and ReLU on the way in and bias and residual on the way out.

use super::geometry::Planes;
use super::operand::{Epilogue, Input, SharedOutput};
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
    fn channels(&self, lanes: usize) -> usize {
        (self.planes.channels - self.channel).min(lanes)
    }

    #[inline(always)]
    fn offset(&self) -> usize {
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
        assert!(row.offset() + (channels - 1) * plane + self.columns <= self.input.values.len());
        assert!((self.columns - 1) * self.pitch + written <= self.to.len());
        let lanes_written = simd.first(written);
        for x in (0..self.columns).step_by(S::F32_LANES) {
            let count = (self.columns - x).min(S::F32_LANES);
            // SAFETY: row `i < channels` spans `offset + i * plane ..+ columns`, asserted inside `values`.
            let mut block = unsafe {
                let from = self.input.values.as_ptr().add(row.offset() + x);
                load_rows(simd, from, plane, channels, count)
            };
            change(simd, self.input, row, channels, &mut block);
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
unsafe fn load_rows<S: Vector>(
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

/// Applies the affine and the ReLU of `input` to rows of channels; rows without a channel stay zero.
#[inline(always)]
fn change<S: Vector>(
    simd: S,
    input: &Input,
    row: RowOfChannels,
    channels: usize,
    block: &mut Block<S>,
) {
    if let Some(affine) = input.affine {
        let (scale, shift) = affine.at(row.planes, row.image, row.channel);
        let (scale, shift) = (&scale[..channels], &shift[..channels]);
        for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
            if i < channels {
                let (scale, shift) = (simd.splat_f32s(scale[i]), simd.splat_f32s(shift[i]));
                *vector = simd.fma(*vector, scale, shift);
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

/// Stores a row: channel `i` of pixel `x` comes from `from[x * pitch + i]`.
pub(crate) struct StoreRow<'a> {
    pub from: &'a [f32],
    pub pitch: usize,
    pub row: RowOfChannels,
    pub epilogue: &'a Epilogue<'a>,
    pub to: SharedOutput<'a>,
}

impl StoreRow<'_> {
    /// # Safety
    /// No other task may write this row of these channels meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Vector>(self, simd: S) {
        simd.enter(StoreOwnRow(self));
    }
}

/// A [`StoreRow`] whose row no other task writes.
struct StoreOwnRow<'a>(StoreRow<'a>);

impl Kernel for StoreOwnRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let StoreOwnRow(this) = self;
        let (row, plane, columns) = (this.row, this.row.planes.plane(), this.row.planes.width);
        let channels = row.channels(S::F32_LANES);
        if columns == 0 {
            return;
        }
        assert!(channels > 0 && (columns - 1) * this.pitch + S::F32_LANES <= this.from.len());
        let span = (channels - 1) * plane + columns;
        // SAFETY: this task alone writes the row (`StoreRow::run`), and the gaps between its channels'
        // rows are not touched below.
        let to = unsafe { this.to.write_at(row.offset(), span) };
        if let Some(residual) = this.epilogue.residual {
            assert!(row.offset() + span <= residual.len());
        }
        for x in (0..columns).step_by(S::F32_LANES) {
            let count = (columns - x).min(S::F32_LANES);
            // SAFETY: pixel `x + i < columns` has a whole vector in `from`, asserted above.
            let mut block = unsafe {
                let from = this.from.as_ptr().add(x * this.pitch);
                load_rows(simd, from, this.pitch, count, S::F32_LANES)
            };
            simd.transpose(&mut block);
            if let Some(bias) = this.epilogue.bias {
                let bias = &bias[row.channel..row.channel + channels];
                for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
                    if i < channels {
                        *vector = simd.add_f32s(*vector, simd.splat_f32s(bias[i]));
                    }
                }
            }
            if let Some(residual) = this.epilogue.residual {
                // SAFETY: the residual has the result's shape, and the row's span was asserted inside it.
                let other = unsafe {
                    let from = residual.as_ptr().add(row.offset() + x);
                    load_rows(simd, from, plane, channels, count)
                };
                for (vector, other) in block.iter_mut().zip(other) {
                    *vector = simd.add_f32s(*vector, other);
                }
            }
            let lanes = simd.first(count);
            for (i, vector) in block.iter().take(S::F32_LANES).enumerate() {
                if i < channels {
                    // SAFETY: row `i < channels` spans `i * plane ..+ columns` from `to`, inside `span`.
                    unsafe {
                        let to = to.add(i * plane + x);
                        if count == S::F32_LANES {
                            simd.store(to, *vector);
                        } else {
                            simd.mask_store_ptr_f32s(lanes, to, *vector);
                        }
                    }
                }
            }
        }
    }
}
