//! Upsampling and its gradient on CPU slices, one plane at a time.

use candle_core::WithDType;
use rayon::prelude::*;

use crate::simd::dispatched;
use crate::storage::{Slot, planes_at_once};

/// Writes every element of `y [.., 2H, 2W]`, each pixel of `x [.., H, W]` four times.
///
/// # Panics
/// If `y` is not four times as long as `x`, or `x` is not made of whole planes.
pub fn nearest_2x<T: WithDType, O: Slot<T>>(x: &[T], h: usize, w: usize, y: &mut [O]) {
    check(x.len(), y.len(), (h, w), (2 * h, 2 * w));
    x.par_chunks((h * w).max(1))
        .zip(y.par_chunks_mut((4 * h * w).max(1)))
        .with_min_len(planes_at_once(4 * h * w))
        .for_each(|(x, y)| double(x, w, y));
}

/// Writes every element of `dx [.., H, W]`: the sum of the gradients `dy [.., 2H, 2W]` of its four copies.
///
/// # Panics
/// If `dy` is not four times as long as `dx`, or `dx` is not made of whole planes.
pub fn nearest_2x_backward<T: WithDType, O: Slot<T>>(dy: &[T], h: usize, w: usize, dx: &mut [O]) {
    check(dx.len(), dy.len(), (h, w), (2 * h, 2 * w));
    dy.par_chunks((4 * h * w).max(1))
        .zip(dx.par_chunks_mut((h * w).max(1)))
        .with_min_len(planes_at_once(4 * h * w))
        .for_each(|(dy, dx)| gather(dy, w, dx));
}

/// Half of the pixels that a bilinear sample lies between: source index below, source index above, weight of the latter.
struct Taps<T> {
    below: Vec<usize>,
    above: Vec<usize>,
    weight: Vec<T>,
}

/// Where `out` samples lie on an axis of `size` pixels: sample i at `(i + 1/2) * size / out - 1/2`, not below 0.
fn taps<T: WithDType>(size: usize, out: usize) -> Taps<T> {
    let scale = size as f64 / out as f64;
    let position = |i: usize| ((i as f64 + 0.5) * scale - 0.5).max(0.0);
    let below = |i: usize| (position(i) as usize).min(size - 1);
    Taps {
        below: (0..out).map(below).collect(),
        above: (0..out).map(|i| (below(i) + 1).min(size - 1)).collect(),
        weight: (0..out)
            .map(|i| T::from_f64(position(i) - below(i) as f64))
            .collect(),
    }
}

/// Writes every element of `y [.., OH, OW]`, `x [.., H, W]` sampled bilinearly with half-pixel centres.
///
/// # Panics
/// If a side is 0 or the lengths are not those of the same number of planes.
pub fn bilinear<T: WithDType, O: Slot<T>>(
    x: &[T],
    from: (usize, usize),
    to: (usize, usize),
    y: &mut [O],
) {
    check(x.len(), y.len(), from, to);
    let (rows, columns) = (taps::<T>(from.0, to.0), taps::<T>(from.1, to.1));
    x.par_chunks(from.0 * from.1)
        .zip(y.par_chunks_mut(to.0 * to.1))
        .with_min_len(planes_at_once(to.0 * to.1))
        .for_each_init(Vec::new, |blend, (x, y)| {
            blend.resize(from.1, T::zero());
            sample(x, &rows, &columns, blend, y);
        });
}

/// Writes every element of `dx [.., H, W]`: the gradients `dy [.., OH, OW]` shared out by the weights of [`bilinear`].
///
/// # Panics
/// If a side is 0 or the lengths are not those of the same number of planes.
pub fn bilinear_backward<T: WithDType, O: Slot<T>>(
    dy: &[T],
    from: (usize, usize),
    to: (usize, usize),
    dx: &mut [O],
) {
    check(dx.len(), dy.len(), from, to);
    let (rows, columns) = (taps::<T>(from.0, to.0), taps::<T>(from.1, to.1));
    dy.par_chunks(to.0 * to.1)
        .zip(dx.par_chunks_mut(from.0 * from.1))
        .with_min_len(planes_at_once(to.0 * to.1))
        .for_each_init(Vec::new, |sums, (dy, dx)| {
            sums.clear();
            // One more row, in which the columns of a row of dy are gathered.
            sums.resize((from.0 + 1) * from.1, T::zero());
            share_out(dy, &rows, &columns, from.1, sums);
            for (dx, &sum) in dx.iter_mut().zip(&*sums) {
                dx.put(sum);
            }
        });
}

fn check(inputs: usize, outputs: usize, (h, w): (usize, usize), (oh, ow): (usize, usize)) {
    let planes = inputs.checked_div(h * w).unwrap_or(0);
    assert_eq!(
        (inputs, outputs),
        (planes * h * w, planes * oh * ow),
        "upsample: planes of {h}x{w} to {oh}x{ow}"
    );
}

dispatched! {
    fn double<T: WithDType, O: Slot<T>>(x: &[T], w: usize, y: &mut [O]) {
        for (x, y) in x.chunks_exact(w).zip(y.chunks_exact_mut(4 * w)) {
            let (top, bottom) = y.split_at_mut(2 * w);
            for ((&x, top), bottom) in x.iter().zip(top.chunks_exact_mut(2)).zip(bottom.chunks_exact_mut(2)) {
                top[0].put(x);
                top[1].put(x);
                bottom[0].put(x);
                bottom[1].put(x);
            }
        }
    }
}

dispatched! {
    fn gather<T: WithDType, O: Slot<T>>(dy: &[T], w: usize, dx: &mut [O]) {
        for (dy, dx) in dy.chunks_exact(4 * w).zip(dx.chunks_exact_mut(w)) {
            let (top, bottom) = dy.split_at(2 * w);
            for ((top, bottom), dx) in top.chunks_exact(2).zip(bottom.chunks_exact(2)).zip(dx) {
                dx.put((top[0] + top[1]) + (bottom[0] + bottom[1]));
            }
        }
    }
}

dispatched! {
    /// Blends two rows, then samples the blend along its columns.
    fn sample<T: WithDType, O: Slot<T>>(x: &[T], rows: &Taps<T>, columns: &Taps<T>, blend: &mut [T], y: &mut [O]) {
        let (w, ow) = (blend.len(), columns.weight.len());
        for (i, y) in y.chunks_exact_mut(ow).enumerate() {
            let (below, above) = (&x[rows.below[i] * w..][..w], &x[rows.above[i] * w..][..w]);
            let weight = rows.weight[i];
            for ((blend, &below), &above) in blend.iter_mut().zip(below).zip(above) {
                *blend = below * (T::one() - weight) + above * weight;
            }
            for (((y, &below), &above), &weight) in
                y.iter_mut().zip(&columns.below).zip(&columns.above).zip(&columns.weight)
            {
                y.put(blend[below] * (T::one() - weight) + blend[above] * weight);
            }
        }
    }
}

dispatched! {
    fn share_out<T: WithDType>(dy: &[T], rows: &Taps<T>, columns: &Taps<T>, w: usize, sums: &mut [T]) {
        let ow = columns.weight.len();
        let (sums, gathered) = sums.split_at_mut(sums.len() - w);
        for (i, dy) in dy.chunks_exact(ow).enumerate() {
            gathered.fill(T::zero());
            for (((&dy, &below), &above), &weight) in
                dy.iter().zip(&columns.below).zip(&columns.above).zip(&columns.weight)
            {
                gathered[below] += dy * (T::one() - weight);
                gathered[above] += dy * weight;
            }
            let weight = rows.weight[i];
            for (sum, &g) in sums[rows.below[i] * w..][..w].iter_mut().zip(&*gathered) {
                *sum += g * (T::one() - weight);
            }
            for (sum, &g) in sums[rows.above[i] * w..][..w].iter_mut().zip(&*gathered) {
                *sum += g * weight;
            }
        }
    }
}
