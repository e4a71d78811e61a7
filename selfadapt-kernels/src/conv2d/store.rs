//! Stores channel-last working memory as image rows of planes `[B, C, H, W]`, with everything that an
//! [`Epilogue`] asks for on the way.

use super::epilogue::{Epilogue, Gate, Sums};
use super::output::SharedOutput;
use super::rows::{RowOfChannels, load_rows};
use crate::simd_vector::{Block, Kernel, MAX_LANES, Vector};

/// Stores a whole row: channel `i` of pixel `x` comes from `from[x * pitch + i]`.
pub(crate) struct StoreRow<'a> {
    pub from: &'a [f32],
    pub pitch: usize,
    pub row: RowOfChannels,
    pub epilogue: &'a Epilogue<'a>,
    pub to: SharedOutput<'a>,
    /// The slot `[2, C]` that the row's sums are added to; empty when nothing is summed.
    pub sums: &'a mut [f32],
}

impl StoreRow<'_> {
    /// # Safety
    /// No other task may write this row of these channels meanwhile.
    #[inline(always)]
    pub unsafe fn run<S: Vector>(self, simd: S) {
        simd.enter(StoreOwnRow(self));
    }

    /// As [`StoreRow::run`], for all of the `pitch` channels that lie side by side, as far as there are so many.
    ///
    /// # Safety
    /// No other task may write this row of these channels meanwhile.
    #[inline(always)]
    pub unsafe fn run_block<S: Vector>(self, simd: S) {
        let channels = self.row.channels(self.pitch);
        for lane in (0..channels).step_by(S::F32_LANES) {
            let vector = StoreRow {
                from: &self.from[lane..],
                row: RowOfChannels {
                    channel: self.row.channel + lane,
                    ..self.row
                },
                sums: &mut *self.sums,
                ..self
            };
            // SAFETY: as the caller vouches for.
            unsafe { vector.run(simd) };
        }
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
        let epilogue = this.epilogue;
        let residual = epilogue
            .residual
            .map(|values| &values[row.offset()..][..span]);
        let gate = epilogue.gate.map(|gate| Gate {
            values: &gate.values[row.offset()..][..span],
            ..gate
        });
        // SAFETY: this task alone writes the row (`StoreRow::run`), and the gaps between its channels'
        // rows are not touched below.
        let to = unsafe { this.to.write_at(row.offset(), span) };
        let mut totals = [[simd.splat_f32s(0.0); MAX_LANES]; 2];
        for x in (0..columns).step_by(S::F32_LANES) {
            let count = (columns - x).min(S::F32_LANES);
            // SAFETY: pixel `x + i < columns` has a whole vector in `from`, asserted above.
            let mut block = unsafe {
                let from = this.from.as_ptr().add(x * this.pitch);
                load_rows(simd, from, this.pitch, count, S::F32_LANES)
            };
            simd.transpose(&mut block);
            if let Some(bias) = epilogue.bias {
                let bias = &bias[row.channel..row.channel + channels];
                for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
                    if i < channels {
                        *vector = simd.add_f32s(*vector, simd.splat_f32s(bias[i]));
                    }
                }
            }
            if let Some(residual) = residual {
                // SAFETY: `residual` is the row's span, which row `i` is inside of up to `columns`.
                let other =
                    unsafe { load_rows(simd, residual.as_ptr().add(x), plane, channels, count) };
                for (vector, other) in block.iter_mut().zip(other) {
                    *vector = simd.add_f32s(*vector, other);
                }
            }
            let mut other = [simd.splat_f32s(0.0); MAX_LANES];
            if let Some(gate) = gate {
                // SAFETY: `gate.values` is the row's span, as above.
                other =
                    unsafe { load_rows(simd, gate.values.as_ptr().add(x), plane, channels, count) };
                if gate.relu {
                    close(simd, gate, row, &other, &mut block);
                }
            }
            if epilogue.sums.center().is_some() {
                add_to(simd, epilogue.sums, row, count, &block, &other, &mut totals);
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
        if epilogue.sums.center().is_some() {
            let (first, second) = this.sums.split_at_mut(row.planes.channels);
            for (total, sums) in totals.into_iter().zip([first, second]) {
                let total = sum_of_rows(simd, total);
                let sums = &mut sums[row.channel..row.channel + channels];
                let before = simd.partial_load_f32s(sums);
                simd.partial_store_f32s(sums, simd.add_f32s(before, total));
            }
        }
    }
}

/// Zeroes what a ReLU behind the gate's affine has cut off.
#[inline(always)]
fn close<S: Vector>(
    simd: S,
    gate: Gate,
    row: RowOfChannels,
    values: &Block<S>,
    block: &mut Block<S>,
) {
    let channels = row.channels(S::F32_LANES);
    let (scale, shift) = gate.affine.at(row.planes, row.image, row.channel, channels);
    let zero = simd.splat_f32s(0.0);
    for (i, vector) in block.iter_mut().take(S::F32_LANES).enumerate() {
        if i < channels {
            let (scale, shift) = (simd.splat_f32s(scale[i]), simd.splat_f32s(shift[i]));
            let open = simd.greater_than_f32s(simd.fma(values[i], scale, shift), zero);
            *vector = simd.select_f32s(open, *vector, zero);
        }
    }
}

/// Adds the first `count` columns of rows of channels to the running sums of each row.
#[inline(always)]
fn add_to<S: Vector>(
    simd: S,
    sums: Sums,
    row: RowOfChannels,
    count: usize,
    block: &Block<S>,
    other: &Block<S>,
    totals: &mut [Block<S>; 2],
) {
    let channels = row.channels(S::F32_LANES);
    let Some(center) = sums.center() else { return };
    let center = &center[row.channel..row.channel + channels];
    let zero = simd.splat_f32s(0.0);
    let inside = simd.first(count).mask();
    let products = matches!(sums, Sums::Products { .. });
    for i in 0..S::F32_LANES {
        if i < channels {
            let center = simd.splat_f32s(center[i]);
            let (value, factor) = if products {
                (block[i], simd.sub_f32s(other[i], center))
            } else {
                let value = simd.sub_f32s(block[i], center);
                (value, value)
            };
            // Beyond the row's end the terms above are not zero.
            let value = if count < S::F32_LANES {
                simd.select_f32s(inside, value, zero)
            } else {
                value
            };
            totals[0][i] = simd.add_f32s(totals[0][i], value);
            totals[1][i] = simd.fma(value, factor, totals[1][i]);
        }
    }
}

/// The vector whose lane `i` is the sum of the lanes of vector `i`.
#[inline(always)]
fn sum_of_rows<S: Vector>(simd: S, mut block: Block<S>) -> S::f32s {
    simd.transpose(&mut block);
    let mut half = S::F32_LANES / 2;
    while half > 0 {
        for i in 0..half {
            block[i] = simd.add_f32s(block[i], block[i + half]);
        }
        half /= 2;
    }
    block[0]
}
