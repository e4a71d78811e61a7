//! The exact algorithm: sums over taps and channels in registers, from a channel-last strip of rows.

use super::epilogue::{ChannelSums, Epilogue};
use super::geometry::Planes;
use super::operand::Input;
use super::output::SharedOutput;
use super::plan::{Phase, Plan, column_blocks};
use super::product::{Product, ProductInto};
use super::rows::{PackRow, RowOfChannels};
use super::store::StoreRow;
use crate::scratch;
use crate::simd_vector::{Kernel, Level, Vector, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Values of a packed strip, chosen to stay in the second-level cache with the weights.
const STRIP: usize = 64 * 1024;

/// Splits `groups` rows of each of `batch` images into strips of at most `most` rows, several a thread.
pub(crate) fn strip_rows(batch: usize, groups: usize, most: usize) -> usize {
    let threads = rayon::current_num_threads();
    let for_threads = (4 * threads).div_ceil(batch.max(1)).min(groups);
    let strips = groups.div_ceil(most.max(1)).max(for_threads).max(1);
    groups.div_ceil(strips).max(1)
}

/// Runs a plan: every pixel of the target is written once. Returns the sums that the epilogue asks for.
pub(crate) fn run(
    plan: &Plan,
    (source, target): (Planes, Planes),
    input: &Input,
    epilogue: &Epilogue,
    output: SharedOutput,
    level: Level,
) -> ChannelSums {
    let groups = plan.groups(target.height);
    let width = plan.reach(plan.groups(target.width));
    let row_values = width * source.channels.max(1) * plan.in_stride;
    let most = STRIP / row_values.max(1);
    in_strips(target, groups, most, |image, groups| {
        let strip = Strip {
            plan,
            source,
            target,
            input,
            epilogue,
            output,
            image,
            groups,
        };
        dispatch(level, strip)
    })
}

/// Has `strip` compute every image's `groups` of rows of the target, at most `most` at a time, each call a task of its own;
/// adds up the sums that it returns.
pub(crate) fn in_strips(
    target: Planes,
    groups: usize,
    most: usize,
    strip: impl Fn(usize, Range<usize>) -> Vec<f32> + Sync,
) -> ChannelSums {
    if target.len() == 0 {
        return ChannelSums::gather(Vec::new(), 1, target);
    }
    let rows = strip_rows(target.batch, groups, most);
    let strips = groups.div_ceil(rows);
    let tasks = (0..target.batch * strips).into_par_iter().map(|task| {
        let first = task % strips * rows;
        strip(task / strips, first..(first + rows).min(groups))
    });
    ChannelSums::gather(tasks.collect(), strips, target)
}

/// The groups of target rows of one image that one task computes.
struct Strip<'a> {
    plan: &'a Plan,
    source: Planes,
    target: Planes,
    input: &'a Input<'a>,
    epilogue: &'a Epilogue<'a>,
    output: SharedOutput<'a>,
    image: usize,
    groups: Range<usize>,
}

impl Kernel for Strip<'_> {
    /// The strip's slot of sums.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) -> Vec<f32> {
        let (source, target, out_stride) = (self.source, self.target, self.plan.out_stride);
        let columns = self.plan.groups(target.width);
        let width = self.plan.reach(columns);
        let mut packed =
            scratch::take(self.plan.reach(self.groups.len()) * width * source.channels);
        let region = Region {
            image: self.image,
            y: (self.groups.start * self.plan.in_stride) as isize + self.plan.first,
            x: self.plan.first,
            height: self.plan.reach(self.groups.len()),
            width,
        };
        pack_region(
            simd,
            self.input,
            source,
            region,
            source.channels,
            &mut packed,
        );
        let out_width = columns * out_stride;
        let mut sums = self.epilogue.slots(1, target.channels);
        let mut rows = scratch::take(out_stride * out_width * 2 * S::F32_LANES);
        for block in column_blocks(target.channels, S::F32_LANES) {
            for (i, group) in self.groups.clone().enumerate() {
                for phase in &self.plan.phases {
                    let at = phase.y.start * out_width + phase.x.start;
                    simd.enter(ProductInto {
                        product: Product {
                            rows: columns,
                            vectors: block.width / S::F32_LANES,
                            ..self.product(phase, &packed, i, width, block.start)
                        },
                        out: &mut rows[at * block.width..],
                        out_row: out_stride * block.width,
                    });
                }
                let y = group * out_stride;
                for dy in 0..out_stride.min(target.height - y) {
                    let row = RowOfChannels {
                        planes: target,
                        image: self.image,
                        channel: block.start,
                        y: y + dy,
                    };
                    let store = StoreRow {
                        from: &rows[dy * out_width * block.width..],
                        pitch: block.width,
                        row,
                        epilogue: self.epilogue,
                        to: self.output,
                        sums: &mut sums,
                    };
                    // SAFETY: a row group of an image belongs to one task, so this row to no other.
                    unsafe { store.run_block(simd) };
                }
            }
        }
        sums
    }
}

impl<'a> Strip<'a> {
    /// The sums of one phase for group `i` of the strip and the channels from `column` on.
    fn product<'b>(
        &self,
        phase: &'b Phase,
        packed: &'b [f32],
        i: usize,
        width: usize,
        column: usize,
    ) -> Product<'b> {
        let channels = self.plan.source;
        let (taps_y, taps_x) = (phase.y.kernel.len(), phase.x.kernel.len());
        let y = i * self.plan.in_stride + (phase.y.offset - self.plan.first) as usize;
        let x = (phase.x.offset - self.plan.first) as usize;
        // A phase without taps along x has no weights to walk.
        let segments = if taps_x == 0 { 0 } else { taps_y };
        let from = if segments == 0 {
            0
        } else {
            (y * width + x) * channels
        };
        Product {
            a: &packed[from..],
            a_row: self.plan.in_stride * channels,
            a_segment: width * channels,
            segments,
            depth: taps_x * channels,
            b: &phase.weights[taps_y * taps_x * channels * column..],
            rows: 0,
            vectors: 0,
        }
    }
}

/// A rectangle of one image, which may reach beyond it.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    pub image: usize,
    pub y: isize,
    pub x: isize,
    pub height: usize,
    pub width: usize,
}

/// Packs all channels of a region channel-last, pixels `pitch` apart, zero beyond the image.
///
/// Where `pitch` leaves room for whole vectors of channels, the lanes without a channel are zeros too.
#[inline(always)]
pub(crate) fn pack_region<S: Vector>(
    simd: S,
    input: &Input,
    planes: Planes,
    region: Region,
    pitch: usize,
    to: &mut [f32],
) {
    let Region { width, .. } = region;
    let left = region.x.min(0).unsigned_abs().min(width);
    let inside = planes.width.min(width - left);
    debug_assert!(region.x <= 0, "regions begin at or before the first column");
    let fill = pitch >= planes.channels.next_multiple_of(S::F32_LANES);
    for r in 0..region.height {
        let to = &mut to[r * width * pitch..(r + 1) * width * pitch];
        let y = region.y + r as isize;
        if y < 0 || y >= planes.height as isize {
            to.fill(0.0);
            continue;
        }
        to[..left * pitch].fill(0.0);
        to[(left + inside) * pitch..].fill(0.0);
        for channel in (0..planes.channels).step_by(S::F32_LANES) {
            simd.enter(PackRow {
                input,
                row: RowOfChannels {
                    planes,
                    image: region.image,
                    channel,
                    y: y as usize,
                },
                columns: inside,
                to: &mut to[left * pitch + channel..],
                pitch,
                fill,
            });
        }
    }
}
