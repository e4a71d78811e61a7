//! Max pooling and its gradient on CPU slices, one plane at a time.

use candle_core::WithDType;
use rayon::prelude::*;

use crate::simd::dispatched;
use crate::storage::{Slot, planes_at_once};

/// The size of a plane and of the windows on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows of an input plane, at least `kernel`.
    pub height: usize,
    /// Columns of an input plane, at least `kernel`.
    pub width: usize,
    /// Side of a window in pixels, at least 1.
    pub kernel: usize,
    /// Distance of neighbouring windows in pixels, at least 1.
    pub stride: usize,
}

impl Window {
    /// Rows of an output plane.
    pub fn out_height(&self) -> usize {
        (self.height - self.kernel) / self.stride + 1
    }

    /// Columns of an output plane.
    pub fn out_width(&self) -> usize {
        (self.width - self.kernel) / self.stride + 1
    }

    /// Pixels of an input plane.
    pub fn inputs(&self) -> usize {
        self.height * self.width
    }

    /// Pixels of an output plane.
    pub fn outputs(&self) -> usize {
        self.out_height() * self.out_width()
    }

    fn halves(&self) -> bool {
        self.kernel == 2 && self.stride == 2
    }
}

/// Writes every element of `y`, the pooled planes of `x`.
///
/// # Panics
/// If the lengths are not those of the same number of planes.
pub fn forward<T: WithDType, O: Slot<T>>(x: &[T], window: Window, y: &mut [O]) {
    let (inputs, outputs) = (window.inputs(), window.outputs());
    let planes = x.len() / inputs;
    assert_eq!(
        (x.len(), y.len()),
        (planes * inputs, planes * outputs),
        "max_pool2d: plane sizes"
    );
    x.par_chunks(inputs)
        .zip(y.par_chunks_mut(outputs))
        .with_min_len(planes_at_once(inputs))
        .for_each(|(x, y)| {
            if window.halves() {
                forward_halves(x, window.width, y);
            } else {
                for (i, y) in y.chunks_exact_mut(window.out_width()).enumerate() {
                    for (j, y) in y.iter_mut().enumerate() {
                        y.put(x[first_maximum(x, window, i, j)]);
                    }
                }
            }
        });
}

/// Writes every element of `dx`, the gradient by `x` given the gradient `dy` by the pooled planes.
///
/// # Panics
/// If the lengths are not those of the same number of planes.
pub fn backward<T: WithDType, O: Slot<T>>(x: &[T], dy: &[T], window: Window, dx: &mut [O]) {
    let (inputs, outputs) = (window.inputs(), window.outputs());
    let planes = x.len() / inputs;
    assert_eq!(
        (x.len(), dy.len(), dx.len()),
        (planes * inputs, planes * outputs, planes * inputs),
        "max_pool2d: plane sizes"
    );
    x.par_chunks(inputs)
        .zip(dy.par_chunks(outputs))
        .zip(dx.par_chunks_mut(inputs))
        .with_min_len(planes_at_once(inputs))
        .for_each_init(Vec::new, |sums, ((x, dy), dx)| {
            if window.halves() {
                backward_halves(x, dy, window.width, dx);
                return;
            }
            sums.clear();
            sums.resize(inputs, T::zero());
            for (i, dy) in dy.chunks_exact(window.out_width()).enumerate() {
                for (j, &dy) in dy.iter().enumerate() {
                    sums[first_maximum(x, window, i, j)] += dy;
                }
            }
            for (dx, &sum) in dx.iter_mut().zip(&*sums) {
                dx.put(sum);
            }
        });
}

/// Whether `new` displaces `best`: it is larger, or NaN.
#[inline(always)]
#[allow(clippy::eq_op)] // only NaN differs from itself
fn displaces<T: WithDType>(new: T, best: T) -> bool {
    new > best || new != new
}

/// Where in the plane the window's first maximum is.
fn first_maximum<T: WithDType>(x: &[T], window: Window, i: usize, j: usize) -> usize {
    let corner = i * window.stride * window.width + j * window.stride;
    let mut at = corner;
    for row in 0..window.kernel {
        for column in 0..window.kernel {
            let here = corner + row * window.width + column;
            if displaces(x[here], x[at]) {
                at = here;
            }
        }
    }
    at
}

dispatched! {
    /// Windows of 2x2 at a stride of 2; without branches, so that it vectorises.
    fn forward_halves<T: WithDType, O: Slot<T>>(x: &[T], width: usize, y: &mut [O]) {
        let columns = width / 2;
        for (x, y) in x.chunks_exact(2 * width).zip(y.chunks_exact_mut(columns)) {
            let (top, bottom) = x.split_at(width);
            for ((top, bottom), y) in top.chunks_exact(2).zip(bottom.chunks_exact(2)).zip(y) {
                let a = if displaces(top[1], top[0]) { top[1] } else { top[0] };
                let a = if displaces(bottom[0], a) { bottom[0] } else { a };
                y.put(if displaces(bottom[1], a) { bottom[1] } else { a });
            }
        }
    }
}

dispatched! {
    /// The gradient of [`forward_halves`]; a last odd row or column receives zero.
    fn backward_halves<T: WithDType, O: Slot<T>>(x: &[T], dy: &[T], width: usize, dx: &mut [O]) {
        let (columns, zero) = (width / 2, T::zero());
        let rows = dy.len() / columns;
        let (dx, last_row) = dx.split_at_mut(rows * 2 * width);
        last_row.iter_mut().for_each(|dx| dx.put(zero));
        for ((x, dy), dx) in x
            .chunks_exact(2 * width)
            .zip(dy.chunks_exact(columns))
            .zip(dx.chunks_exact_mut(2 * width))
        {
            let ((top, bottom), (dtop, dbottom)) = (x.split_at(width), dx.split_at_mut(width));
            for ((((top, bottom), &dy), dtop), dbottom) in top
                .chunks_exact(2)
                .zip(bottom.chunks_exact(2))
                .zip(dy)
                .zip(dtop.chunks_exact_mut(2))
                .zip(dbottom.chunks_exact_mut(2))
            {
                let second = displaces(top[1], top[0]);
                let a = if second { top[1] } else { top[0] };
                let third = displaces(bottom[0], a);
                let a = if third { bottom[0] } else { a };
                let fourth = displaces(bottom[1], a);
                dtop[0].put(if second | third | fourth { zero } else { dy });
                dtop[1].put(if second & !third & !fourth { dy } else { zero });
                dbottom[0].put(if third & !fourth { dy } else { zero });
                dbottom[1].put(if fourth { dy } else { zero });
            }
            if width % 2 == 1 {
                dtop[width - 1].put(zero);
                dbottom[width - 1].put(zero);
            }
        }
    }
}
