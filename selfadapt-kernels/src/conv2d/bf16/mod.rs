//! The direct algorithm with factors rounded to bf16 and sums in f32, on a processor's matrix tiles (Intel AMX).
//!
//! A tile holds 16 rows of 32 factors; one instruction multiplies two of them into 16 x 16 sums, sixteen times as many
//! multiplications as a vector instruction does. That outweighs the fourfold saving of Winograd's algorithm, whose
//! transforms would not survive 8 bits of precision. Everything around the products is the direct algorithm's.

mod filters;
mod tiles;

use std::ops::Range;

use super::direct::{Region, in_strips, pack_region};
use super::epilogue::{ChannelSums, Epilogue};
use super::geometry::{Geometry, Planes};
use super::operand::Input;
use super::output::SharedOutput;
use super::plan::column_blocks;
use super::rows::RowOfChannels;
use super::store::StoreRow;
use crate::scratch;
use crate::simd_vector::{Kernel, Level, Vector, dispatch};
pub(crate) use filters::Filters;
use filters::round;
pub(crate) use tiles::available;
use tiles::{Kind, TileProduct};

/// Factors that one tile instruction sums over.
const DEPTH: usize = 32;
/// Rows and columns of a tile of sums.
const SIDE: usize = 16;
/// Pixels of one product: two tiles.
const PIXELS: usize = 2 * SIDE;
/// Values of a packed strip, chosen to stay in the second-level cache with the weights.
const STRIP: usize = 128 * 1024;

/// Whether a convolution (or, with `gradient`, its gradient by the input) can be computed so: rows of taps are whole tiles.
pub(crate) fn suits(geometry: &Geometry, gradient: bool) -> bool {
    let source = match gradient {
        true => geometry.out_channels(),
        false => geometry.in_channels(),
    };
    geometry.stride() == 1 && source > 0 && source.is_multiple_of(DEPTH)
}

/// Writes every pixel of the target once. Returns the sums that the epilogue asks for.
pub(crate) fn run(
    filters: &Filters,
    (source, target): (Planes, Planes),
    input: &Input,
    epilogue: &Epilogue,
    output: SharedOutput,
    level: Level,
) -> ChannelSums {
    let row_values = filters.reach(target.width) * source.channels;
    let kind = Kind::at(level);
    let most = STRIP / row_values.max(1);
    in_strips(target, target.height, most, |image, rows| {
        let strip = Strip {
            filters,
            source,
            target,
            input,
            epilogue,
            output,
            kind,
            image,
            rows,
        };
        dispatch(level, strip)
    })
}

/// The target rows of one image that one task computes.
struct Strip<'a> {
    filters: &'a Filters,
    source: Planes,
    target: Planes,
    input: &'a Input<'a>,
    epilogue: &'a Epilogue<'a>,
    output: SharedOutput<'a>,
    kind: Kind,
    image: usize,
    rows: Range<usize>,
}

impl Kernel for Strip<'_> {
    /// The strip's slot of sums.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) -> Vec<f32> {
        let (filters, target, channels) = (self.filters, self.target, self.source.channels);
        let (columns, width) = (target.width, filters.reach(target.width));
        let height = filters.reach(self.rows.len());
        // The last product of the last row reads whole tiles, beyond its own pixels.
        let values = (height * width + PIXELS) * channels;
        let mut packed = scratch::take_halves(values);
        packed[height * width * channels..].fill(0);
        let mut line = scratch::take(width * channels);
        for (r, packed) in packed[..height * width * channels]
            .chunks_exact_mut(width * channels)
            .enumerate()
        {
            let region = Region {
                image: self.image,
                y: (self.rows.start + r) as isize + filters.first(),
                x: filters.first(),
                height: 1,
                width,
            };
            pack_region(simd, self.input, self.source, region, channels, &mut line);
            round(&line, packed);
        }
        let mut sums = self.epilogue.slots(1, target.channels);
        let mut rows = scratch::take(columns.next_multiple_of(PIXELS) * 2 * SIDE);
        let tiles = self.kind.open();
        for block in column_blocks(target.channels, SIDE) {
            let weights = filters.block(block);
            for (i, y) in self.rows.clone().enumerate() {
                for x in (0..columns).step_by(PIXELS) {
                    tiles.multiply(TileProduct {
                        a: &packed[(i * width + x) * channels..],
                        a_row: channels,
                        a_segment: width * channels,
                        segments: filters.taps(),
                        depth: filters.taps() * channels,
                        b: weights,
                        // The second tile of pixels is left out where all of it would lie beyond the row.
                        tall: columns - x > SIDE,
                        wide: block.width > SIDE,
                        out: &mut rows[x * block.width..],
                        out_row: block.width,
                    });
                }
                let row = RowOfChannels {
                    planes: target,
                    image: self.image,
                    channel: block.start,
                    y,
                };
                let store = StoreRow {
                    from: &rows,
                    pitch: block.width,
                    row,
                    epilogue: self.epilogue,
                    to: self.output,
                    sums: &mut sums,
                };
                // SAFETY: a row of an image belongs to one task, so this row to no other.
                unsafe { store.run_block(simd) };
            }
        }
        sums
    }
}
