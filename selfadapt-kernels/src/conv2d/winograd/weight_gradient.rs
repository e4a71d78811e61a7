//! The gradient by the weight: `G^T [sum over tiles of (B^T d B) * (A dy A^T)] G`, summed in a fixed order.

use super::layout::{TileLayout, TileRows};
use super::tiles::{TransformRows, Window, transform_rows};
use super::transform::{self, POINTS, SIDE};
use crate::conv2d::direct_weight::{accumulators, share, sum_in_order};
use crate::conv2d::geometry::{Geometry, Planes};
use crate::conv2d::operand::Input;
use crate::conv2d::product::OuterProduct;
use crate::scratch;
use crate::simd_vector::{Kernel, Level, MAX_LANES, Vector, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Values of the transformed tiles of one task: the second-level cache.
const TILES: usize = 250_000;
/// The same where the sums are so large that going over them once more costs more than the cache saves.
const MOST_TILES: usize = 4_000_000;

/// Writes the gradient by the weight, `[Co, Ci, 3, 3]`.
pub(crate) fn run(
    geometry: &Geometry,
    input: &Input,
    gradient: &Input,
    out: &mut [f32],
    level: Level,
) {
    let (ci, co) = (geometry.in_channels(), geometry.out_channels());
    let padded = |channels: usize| channels.next_multiple_of(level.lanes());
    let values = POINTS * ci * padded(co);
    let rows = TileRows::new(geometry.output_planes());
    let per_task = rows.for_task(padded(ci) + padded(co), values.clamp(TILES, MOST_TILES), 1);
    let tasks = rows.count().div_ceil(per_task);
    let parts = accumulators(tasks, values);
    let sums = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut sum = vec![0.0; values];
            for task in share(tasks, part, parts) {
                let first = task * per_task;
                let task = Task {
                    input,
                    gradient,
                    source: geometry.input_planes(),
                    rows,
                    range: first..(first + per_task).min(rows.count()),
                    sum: &mut sum,
                };
                dispatch(level, task);
            }
            sum
        })
        .collect();
    let sum = sum_in_order(sums);
    let lanes = level.lanes();
    out.par_chunks_mut(lanes * 9 * ci)
        .enumerate()
        .for_each(|(block, filters)| {
            let block = FilterBlock {
                sum: &sum,
                ci,
                padded: padded(co),
                start: block * lanes,
                filters,
            };
            dispatch(level, block);
        });
}

/// One vector of output channels of the gradient: `G^T u G` from the summed points `[point][Ci][Co, padded]`.
struct FilterBlock<'a> {
    sum: &'a [f32],
    ci: usize,
    padded: usize,
    start: usize,
    /// `[Co of the block][Ci][3][3]`.
    filters: &'a mut [f32],
}

impl Kernel for FilterBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let point = self.ci * self.padded;
        for c in 0..self.ci {
            let at = c * self.padded + self.start;
            let from = &self.sum[at..at + (POINTS - 1) * point + S::F32_LANES];
            // rows[x][v]: transformed along y.
            let mut rows = [[zero; 3]; SIDE];
            for (x, row) in rows.iter_mut().enumerate() {
                // SAFETY: point `6 * y + x` is one of the 36 that `from` holds a vector of.
                let values = unsafe {
                    transform::load_column(simd, from.as_ptr().add(x * point), SIDE * point)
                };
                *row = transform::filter_gradient(simd, values);
            }
            let mut taps = [[0.0; MAX_LANES]; 9];
            for u in 0..3 {
                let values = transform::filter_gradient(simd, transform::across(&rows, u));
                for (v, value) in values.into_iter().enumerate() {
                    simd.partial_store_f32s(&mut taps[3 * u + v][..S::F32_LANES], value);
                }
            }
            for (lane, filter) in self.filters.chunks_exact_mut(9 * self.ci).enumerate() {
                for (weight, tap) in filter[9 * c..9 * c + 9].iter_mut().zip(&taps) {
                    *weight = tap[lane];
                }
            }
        }
    }
}

/// A run of tile rows whose products one task adds to its accumulator `[point][Ci][Co, padded]`.
struct Task<'a> {
    input: &'a Input<'a>,
    gradient: &'a Input<'a>,
    source: Planes,
    rows: TileRows,
    range: Range<usize>,
    sum: &'a mut [f32],
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let across = self.rows.across;
        let tiles = self.range.len() * across;
        let layout = |planes: Planes| TileLayout {
            channels: planes.channels.next_multiple_of(S::F32_LANES),
            tiles,
        };
        let (left, right) = (layout(self.source), layout(self.rows.planes));
        let mut strip = scratch::take(Window::Input.strip_len(across, S::F32_LANES));
        let mut pixels = scratch::take(left.len());
        let mut gradients = scratch::take(right.len());
        let source_rows = TileRows {
            planes: self.source,
            ..self.rows
        };
        for (input, rows, window, layout, to) in [
            (self.input, source_rows, Window::Input, left, &mut pixels),
            (
                self.gradient,
                self.rows,
                Window::Gradient,
                right,
                &mut gradients,
            ),
        ] {
            let range = self.range.clone();
            let rows = TransformRows {
                input,
                rows,
                range,
                window,
                layout,
            };
            transform_rows(simd, rows, &mut strip, to);
        }
        let ci = self.source.channels;
        for point in 0..POINTS {
            simd.enter(OuterProduct {
                a: &pixels[point * left.point()..],
                a_pixel: left.channels,
                a_segment: 0,
                b: &gradients[point * right.point()..],
                b_pixel: right.channels,
                b_segment: 0,
                segments: 1,
                pixels: tiles,
                rows: ci,
                vectors: right.channels / S::F32_LANES,
                out: &mut self.sum[point * ci * right.channels..],
                out_row: right.channels,
            });
        }
    }
}
