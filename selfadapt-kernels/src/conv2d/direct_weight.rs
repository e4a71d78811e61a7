//! The exact gradient by the weight: outer products of input and output pixels, summed in a fixed order.

use super::direct::{Region, pack_region, strip_rows};
use super::geometry::Geometry;
use super::operand::Input;
use super::product::OuterProduct;
use crate::scratch;
use crate::simd_vector::{Kernel, Level, Vector, dispatch};
use rayon::prelude::*;
use std::ops::Range;

/// Values of the two packed strips together, chosen to stay in the second-level cache.
const STRIPS: usize = 96 * 1024;

/// Values of all accumulators together beyond which there is only one for each thread.
const ACCUMULATORS: usize = 1 << 21;

/// How many accumulators to fill side by side: fixed by the sizes and the number of threads, so that the
/// order of the sums, and so their rounding, does not depend on which thread is faster.
pub(crate) fn accumulators(tasks: usize, values: usize) -> usize {
    let threads = rayon::current_num_threads();
    (ACCUMULATORS / values.max(1))
        .clamp(threads, 4 * threads)
        .min(tasks)
        .max(1)
}

/// The range of `tasks` that accumulator `part` of `parts` takes.
pub(crate) fn share(tasks: usize, part: usize, parts: usize) -> Range<usize> {
    tasks * part / parts..tasks * (part + 1) / parts
}

/// Adds accumulators of the same length in their order, into the first.
pub(crate) fn sum_in_order(mut accumulators: Vec<Vec<f32>>) -> Vec<f32> {
    let rest = accumulators.split_off(1.min(accumulators.len()));
    let Some(mut total) = accumulators.pop() else {
        return Vec::new();
    };
    const CHUNK: usize = 4096;
    total
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(i, chunk)| {
            for other in &rest {
                for (sum, value) in chunk.iter_mut().zip(&other[i * CHUNK..]) {
                    *sum += value;
                }
            }
        });
    total
}

/// Writes the gradient by the weight, `[Co, Ci, k, k]`, for any stride.
pub(crate) fn run(
    geometry: &Geometry,
    input: &Input,
    gradient: &Input,
    out: &mut [f32],
    level: Level,
) {
    let kernel = geometry.kernel();
    let (ci, co) = (geometry.in_channels(), geometry.out_channels());
    let padded = co.next_multiple_of(level.lanes());
    let height = geometry.out_height();
    let row_values = geometry.out_width() * (ci * geometry.stride() * geometry.stride() + padded);
    let rows = strip_rows(geometry.batch(), height, STRIPS / row_values.max(1));
    let strips = height.div_ceil(rows);
    let tasks = geometry.batch() * strips;
    let parts = accumulators(tasks, kernel * kernel * ci * padded);
    let sums = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut sum = vec![0.0; kernel * kernel * ci * padded];
            for task in share(tasks, part, parts) {
                let first = task % strips * rows;
                let strip = Strip {
                    geometry,
                    input,
                    gradient,
                    image: task / strips,
                    rows: first..(first + rows).min(height),
                    sum: &mut sum,
                };
                dispatch(level, strip);
            }
            sum
        })
        .collect();
    let sum = sum_in_order(sums);
    let taps = kernel * kernel;
    // A block of filters at a time, so that what is read lies side by side.
    const BLOCK: usize = 16;
    out.par_chunks_mut(BLOCK * ci * taps)
        .enumerate()
        .for_each(|(block, filters)| {
            let channels = filters.len() / (ci * taps);
            for tap in 0..taps {
                for c in 0..ci {
                    let from = (tap * ci + c) * padded + block * BLOCK;
                    for (o, value) in sum[from..from + channels].iter().enumerate() {
                        filters[(o * ci + c) * taps + tap] = *value;
                    }
                }
            }
        });
}

/// The output rows of one image that one task adds to its accumulator `[tap][Ci][Co, padded]`.
struct Strip<'a> {
    geometry: &'a Geometry,
    input: &'a Input<'a>,
    gradient: &'a Input<'a>,
    image: usize,
    rows: Range<usize>,
    sum: &'a mut [f32],
}

impl Kernel for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        let geometry = self.geometry;
        let (kernel, stride) = (geometry.kernel(), geometry.stride());
        let (ci, out_width) = (geometry.in_channels(), geometry.out_width());
        let padded = geometry.out_channels().next_multiple_of(S::F32_LANES);
        if out_width == 0 || ci == 0 || padded == 0 {
            return;
        }
        let width = (out_width - 1) * stride + kernel;
        let height = (self.rows.len() - 1) * stride + kernel;
        let mut pixels = scratch::take(height * width * ci);
        let region = Region {
            image: self.image,
            y: (self.rows.start * stride) as isize - geometry.padding() as isize,
            x: -(geometry.padding() as isize),
            height,
            width,
        };
        pack_region(
            simd,
            self.input,
            geometry.input_planes(),
            region,
            ci,
            &mut pixels,
        );
        let mut gradients = scratch::take(self.rows.len() * out_width * padded);
        let region = Region {
            image: self.image,
            y: self.rows.start as isize,
            x: 0,
            height: self.rows.len(),
            width: out_width,
        };
        let planes = geometry.output_planes();
        pack_region(simd, self.gradient, planes, region, padded, &mut gradients);
        // The taps of one kernel row are neighbours in a strip, so they are rows of one product.
        for y in 0..kernel {
            simd.enter(OuterProduct {
                a: &pixels[y * width * ci..],
                a_pixel: stride * ci,
                a_segment: stride * width * ci,
                b: &gradients,
                b_pixel: padded,
                b_segment: out_width * padded,
                segments: self.rows.len(),
                pixels: out_width,
                rows: kernel * ci,
                vectors: padded / S::F32_LANES,
                out: &mut self.sum[y * kernel * ci * padded..],
                out_row: padded,
            });
        }
    }
}
