//! Stores channel-last working memory as image rows of planes `[B, C, H, W]`, with everything that an
//! [`Epilogue`] asks for on the way.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over a block's vectors are written alike, whether one block is indexed or two"
)]

use super::epilogue::{Epilogue, Gate, Sums};
use super::output::SharedOutput;
use super::rows::{RowOfChannels, Square, load_rows};
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
        let of_row = |values| {
            let values: &[f32] = values;
            &values[row.offset()..][..span]
        };
        let epilogue = Epilogue {
            residual: this.epilogue.residual.map(of_row),
            gate: this.epilogue.gate.map(|gate| Gate {
                values: of_row(gate.values),
                ..gate
            }),
            ..*this.epilogue
        };
        // SAFETY: this task alone writes the row (`StoreRow::run`), and the gaps between its channels'
        // rows are not touched below.
        let to = unsafe { this.to.write_at(row.offset(), span) };
        let mut totals = [[simd.splat_f32s(0.0); MAX_LANES]; 2];
        let stored = Row {
            row,
            from: this.from,
            pitch: this.pitch,
            epilogue,
            to,
        };
        for x in (0..columns).step_by(S::F32_LANES) {
            let square = Square::at::<S>(x, columns, channels);
            // SAFETY: pixels `x < columns` have a whole vector in `from`, asserted above; rows `i < channels` span
            // `i * plane ..+ columns`, inside `span`, of the others.
            unsafe {
                if square.is_whole::<S>() {
                    stored.square::<S, true>(simd, square, &mut totals);
                } else {
                    stored.square::<S, false>(simd, square, &mut totals);
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

/// A row that is being stored, square by square.
struct Row<'a> {
    row: RowOfChannels,
    from: &'a [f32],
    pitch: usize,
    /// With residual and gate from the row's first value on, as `to`.
    epilogue: Epilogue<'a>,
    to: *mut f32,
}

impl Row<'_> {
    /// Stores one square and adds to the running sums of each channel; `WHOLE` if it has all of its rows and columns.
    ///
    /// # Safety
    /// The square's pixels must be whole vectors of `from`, and its rows inside residual, gate and `to`, which no other
    /// task may write meanwhile.
    #[inline(always)]
    unsafe fn square<S: Vector, const WHOLE: bool>(
        &self,
        simd: S,
        square: Square,
        totals: &mut [Block<S>; 2],
    ) {
        let (epilogue, plane) = (&self.epilogue, self.row.planes.plane());
        let channels = if WHOLE { S::F32_LANES } else { square.rows };
        let columns = if WHOLE { S::F32_LANES } else { square.columns };
        // SAFETY: the caller vouches for the square's pixels.
        let mut block = unsafe {
            let from = self.from.as_ptr().add(square.x * self.pitch);
            load_rows::<S, WHOLE>(simd, from, self.pitch, columns, S::F32_LANES)
        };
        simd.transpose(&mut block);
        if let Some(bias) = epilogue.bias {
            let bias = &bias[self.row.channel..self.row.channel + channels];
            for i in 0..S::F32_LANES {
                if WHOLE || i < channels {
                    block[i] = simd.add_f32s(block[i], simd.splat_f32s(bias[i]));
                }
            }
        }
        if let Some(residual) = epilogue.residual {
            // SAFETY: the caller vouches for the square's rows.
            let other = unsafe {
                let from = residual.as_ptr().add(square.x);
                load_rows::<S, WHOLE>(simd, from, plane, channels, columns)
            };
            for i in 0..S::F32_LANES {
                block[i] = simd.add_f32s(block[i], other[i]);
            }
        }
        if let Some(gate) = epilogue.gate {
            // SAFETY: as above.
            let values = unsafe {
                let from = gate.values.as_ptr().add(square.x);
                load_rows::<S, WHOLE>(simd, from, plane, channels, columns)
            };
            if gate.relu {
                close::<S, WHOLE>(simd, gate, self.row, square, &values, &mut block);
            }
            if let Sums::Products { center } = epilogue.sums {
                let center = &center[self.row.channel..self.row.channel + channels];
                for i in 0..S::F32_LANES {
                    if WHOLE || i < channels {
                        let factor = simd.sub_f32s(values[i], simd.splat_f32s(center[i]));
                        add_to(simd, square, i, block[i], factor, totals);
                    }
                }
            }
        }
        if let Sums::Moments { center } = epilogue.sums {
            let center = &center[self.row.channel..self.row.channel + channels];
            for i in 0..S::F32_LANES {
                if WHOLE || i < channels {
                    let value = simd.sub_f32s(block[i], simd.splat_f32s(center[i]));
                    add_to(simd, square, i, value, value, totals);
                }
            }
        }
        let lanes = simd.first(columns);
        for i in 0..S::F32_LANES {
            // SAFETY: the caller vouches for the square's rows.
            unsafe {
                if WHOLE {
                    simd.store(self.to.add(i * plane + square.x), block[i]);
                } else if i < channels {
                    simd.mask_store_ptr_f32s(lanes, self.to.add(i * plane + square.x), block[i]);
                }
            }
        }
    }
}

/// Zeroes what a ReLU behind the gate's affine has cut off.
#[inline(always)]
fn close<S: Vector, const WHOLE: bool>(
    simd: S,
    gate: Gate,
    row: RowOfChannels,
    square: Square,
    values: &Block<S>,
    block: &mut Block<S>,
) {
    let channels = if WHOLE { S::F32_LANES } else { square.rows };
    let (scale, shift) = gate.affine.at(row.planes, row.image, row.channel, channels);
    let zero = simd.splat_f32s(0.0);
    for i in 0..S::F32_LANES {
        if WHOLE || i < channels {
            let (scale, shift) = (simd.splat_f32s(scale[i]), simd.splat_f32s(shift[i]));
            let open = simd.greater_than_f32s(simd.fma(values[i], scale, shift), zero);
            block[i] = simd.select_f32s(open, block[i], zero);
        }
    }
}

/// Adds row `i` of a square of values, and of their products with `factor`, to the running sums of that row.
#[inline(always)]
fn add_to<S: Vector>(
    simd: S,
    square: Square,
    i: usize,
    value: S::f32s,
    factor: S::f32s,
    totals: &mut [Block<S>; 2],
) {
    let mut value = value;
    if square.again > 0 || square.columns < S::F32_LANES {
        // Not what was summed before, nor what is not zero beyond the row's end.
        let counted = simd.mask_between_m32s(square.again as u32, square.columns as u32);
        value = simd.select_f32s(counted.mask(), value, simd.splat_f32s(0.0));
    }
    totals[0][i] = simd.add_f32s(totals[0][i], value);
    totals[1][i] = simd.fma(value, factor, totals[1][i]);
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
