//! Winograd convolution, and its data gradient as the convolution with turned, swapped filters.

use super::layout::{TileLayout, TileRows};
use super::tiles::{OutputRow, TransformRows, Window, transform_rows};
use super::transform::{self, POINTS, SIDE, STEP};
use crate::conv2d::epilogue::{ChannelSums, Epilogue};
use crate::conv2d::geometry::{Geometry, Planes};
use crate::conv2d::operand::Input;
use crate::conv2d::output::SharedOutput;
use crate::conv2d::plan::column_blocks;
use crate::conv2d::product::{Product, ProductInto};
use crate::conv2d::rows::RowOfChannels;
use crate::conv2d::store::StoreRow;
use crate::scratch;
use crate::simd_vector::{Kernel, Level, MAX_LANES, Vector, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Values of the transformed tiles of one task, input and output together: the second-level cache.
const TILES: usize = 250_000;
/// The same where the filters are so large that reading them once more costs more than the cache saves.
const MOST_TILES: usize = 600_000;

/// Transformed filters `G g G^T`, for one direction.
#[derive(Clone)]
pub(crate) struct Filters {
    /// `[column block][point][source channel][columns of the block]`.
    values: Vec<f32>,
    /// Channels that are summed over.
    source: usize,
    lanes: usize,
}

impl Filters {
    /// The filters of the convolution itself.
    pub fn forward(geometry: &Geometry, weight: &[f32], level: Level) -> Self {
        let channels = geometry.in_channels();
        let sides = (channels, geometry.out_channels());
        Self::new(sides, level, |target, source, tap| {
            weight[(target * channels + source) * 9 + tap]
        })
    }

    /// The filters of the gradient by the input: the taps reversed, the channels swapped.
    pub fn backward_data(geometry: &Geometry, weight: &[f32], level: Level) -> Self {
        let channels = geometry.in_channels();
        let sides = (geometry.out_channels(), channels);
        Self::new(sides, level, |target, source, tap| {
            weight[(source * channels + target) * 9 + 8 - tap]
        })
    }

    fn new(
        (source, target): (usize, usize),
        level: Level,
        tap: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let lanes = level.lanes();
        let padded = target.next_multiple_of(lanes);
        let mut values = vec![0.0; POINTS * source * padded];
        let mut rest = values.as_mut_slice();
        let mut jobs = Vec::new();
        for block in column_blocks(target, lanes) {
            let (of_block, after) = rest.split_at_mut(POINTS * source * block.width);
            rest = after;
            jobs.push((block, of_block));
        }
        jobs.into_par_iter().for_each(|(block, to)| {
            let mut taps = [[0.0; 2 * MAX_LANES]; 9];
            for from in 0..source {
                for (i, taps) in taps.iter_mut().enumerate() {
                    for (lane, value) in taps[..block.width].iter_mut().enumerate() {
                        let channel = block.start + lane;
                        *value = if channel < target {
                            tap(channel, from, i)
                        } else {
                            0.0
                        };
                    }
                }
                let job = FilterRow {
                    taps: &taps,
                    width: block.width,
                    point: source * block.width,
                    to: &mut to[from * block.width..],
                };
                dispatch(level, job);
            }
        });
        Self {
            values,
            source,
            lanes,
        }
    }

    /// The filters of one point and column block: `[source channel][columns]`.
    fn panel(&self, point: usize, start: usize, width: usize) -> &[f32] {
        let at = POINTS * self.source * start + point * self.source * width;
        &self.values[at..at + self.source * width]
    }
}

/// Transforms the filters of one source channel and one block of target channels.
struct FilterRow<'a> {
    taps: &'a [[f32; 2 * MAX_LANES]; 9],
    width: usize,
    point: usize,
    to: &'a mut [f32],
}

impl Kernel for FilterRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        for lane in (0..self.width).step_by(S::F32_LANES) {
            let mut columns = [[simd.splat_f32s(0.0); SIDE]; 3];
            for (x, column) in columns.iter_mut().enumerate() {
                let mut taps = [simd.splat_f32s(0.0); 3];
                for (y, tap) in taps.iter_mut().enumerate() {
                    let from = &self.taps[3 * y + x][lane..lane + S::F32_LANES];
                    *tap = simd.partial_load_f32s(from);
                }
                *column = transform::filter(simd, taps);
            }
            for y in 0..SIDE {
                let values = transform::filter(simd, transform::across(&columns, y));
                for (x, value) in values.into_iter().enumerate() {
                    let at = (y * SIDE + x) * self.point + lane;
                    simd.partial_store_f32s(&mut self.to[at..at + S::F32_LANES], value);
                }
            }
        }
    }
}

/// Writes every pixel of the target from `planes`, source and target. Returns the sums that the epilogue asks for.
pub(crate) fn run(
    filters: &Filters,
    (source, target): (Planes, Planes),
    input: &Input,
    epilogue: &Epilogue,
    output: SharedOutput,
    level: Level,
) -> ChannelSums {
    if target.len() == 0 {
        return ChannelSums::gather(Vec::new(), 1, target);
    }
    let rows = TileRows::new(target);
    let padded = |planes: Planes| planes.channels.next_multiple_of(filters.lanes);
    let tile_rows = if level == Level::Avx512 || level == Level::Neon {
        14
    } else {
        6
    };
    let tiles = (filters.values.len() / 4).clamp(TILES, MOST_TILES);
    let per_task = rows.for_task(padded(source) + padded(target), tiles, tile_rows);
    let tasks = rows.count().div_ceil(per_task);
    let sums = (0..tasks).into_par_iter().map(|task| {
        let first = task * per_task;
        let task = Task {
            filters,
            source,
            input,
            epilogue,
            output,
            rows,
            range: first..(first + per_task).min(rows.count()),
        };
        dispatch(level, task)
    });
    ChannelSums::gather(sums.collect(), rows.down, target)
}

/// A run of tile rows that one task computes.
struct Task<'a> {
    filters: &'a Filters,
    source: Planes,
    input: &'a Input<'a>,
    epilogue: &'a Epilogue<'a>,
    output: SharedOutput<'a>,
    rows: TileRows,
    range: Range<usize>,
}

impl Kernel for Task<'_> {
    /// A slot of sums for each tile row.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) -> Vec<f32> {
        let across = self.rows.across;
        let tiles = self.range.len() * across;
        let layout = |planes: Planes| TileLayout {
            channels: planes.channels.next_multiple_of(S::F32_LANES),
            tiles,
        };
        let (source, target) = (self.source, self.rows.planes);
        let (from, to) = (layout(source), layout(target));
        let mut strip = scratch::take(Window::Input.strip_len(across, S::F32_LANES));
        let mut transformed = scratch::take(from.len());
        let mut summed = scratch::take(to.len());
        let mut pixels = scratch::take(STEP * STEP * across * S::F32_LANES);
        let source_rows = TileRows {
            planes: source,
            ..self.rows
        };
        let rows = TransformRows {
            input: self.input,
            rows: source_rows,
            range: self.range.clone(),
            window: Window::Input,
            layout: from,
        };
        transform_rows(simd, rows, &mut strip, &mut transformed);
        for point in 0..POINTS {
            for block in column_blocks(target.channels, S::F32_LANES) {
                simd.enter(ProductInto {
                    product: Product {
                        a: &transformed[point * from.point()..],
                        a_row: from.channels,
                        a_segment: 0,
                        segments: 1,
                        depth: source.channels,
                        b: self.filters.panel(point, block.start, block.width),
                        rows: tiles,
                        vectors: block.width / S::F32_LANES,
                    },
                    out: &mut summed[point * to.point() + block.start..],
                    out_row: to.channels,
                });
            }
        }
        let mut sums = self.epilogue.slots(self.range.len(), target.channels);
        let slot = sums.len() / self.range.len().max(1);
        for channel in (0..target.channels).step_by(S::F32_LANES) {
            for (i, row) in self.range.clone().enumerate() {
                simd.enter(OutputRow {
                    from: &summed[i * across * to.channels + channel..],
                    layout: to,
                    across,
                    to: &mut pixels,
                });
                let (image, top) = self.rows.place(row);
                for dy in 0..STEP.min(target.height - top) {
                    let store = StoreRow {
                        from: &pixels[dy * STEP * across * S::F32_LANES..],
                        pitch: S::F32_LANES,
                        row: RowOfChannels {
                            planes: target,
                            image,
                            channel,
                            y: top + dy,
                        },
                        epilogue: self.epilogue,
                        to: self.output,
                        sums: &mut sums[i * slot..(i + 1) * slot],
                    };
                    // SAFETY: a tile row belongs to one task, so its pixel rows to no other.
                    unsafe { store.run(simd) };
                }
            }
        }
        sums
    }
}
