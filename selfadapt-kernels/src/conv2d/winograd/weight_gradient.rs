//! The gradient by the weight: `G^T [sum over tiles of (B^T d B) * (A dy A^T)] G`, summed in a fixed order.

use super::tiles::{TileLayout, TileRows, TransformRows, Window, transform_rows};
use super::transform::{G, POINTS, SIDE};
use crate::conv2d::direct_weight::{accumulators, share, sum_in_order};
use crate::conv2d::geometry::{Geometry, Planes};
use crate::conv2d::operand::Input;
use crate::conv2d::product::OuterProduct;
use crate::scratch;
use crate::simd_vector::{Kernel, Level, Vector, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Values of the transformed tiles of one task: the second-level cache.
const TILES: usize = 250_000;

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
    let per_task = rows.for_task(padded(ci) + padded(co), TILES, 1);
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
    out.par_chunks_exact_mut((9 * ci).max(1))
        .enumerate()
        .for_each(|(o, filter)| {
            for (c, weights) in filter.chunks_exact_mut(9).enumerate() {
                let point = |y: usize, x: usize| sum[((y * SIDE + x) * ci + c) * padded(co) + o];
                weights.copy_from_slice(&untransform(point));
            }
        });
}

/// `G^T u G` of one pair of channels.
fn untransform(u: impl Fn(usize, usize) -> f32) -> [f32; 9] {
    let mut half = [[0.0; SIDE]; 3];
    for (a, row) in half.iter_mut().enumerate() {
        for (x, value) in row.iter_mut().enumerate() {
            *value = (0..SIDE).map(|y| G[y][a] * u(y, x)).sum();
        }
    }
    let mut taps = [0.0; 9];
    for (i, tap) in taps.iter_mut().enumerate() {
        *tap = (0..SIDE).map(|x| half[i / 3][x] * G[x][i % 3]).sum();
    }
    taps
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
