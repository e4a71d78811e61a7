//! Max pooling and its gradient on CPU slices, one plane at a time.

use candle_core::WithDType;
use rayon::prelude::*;

use crate::simd::dispatched;
use crate::storage::{Slot, planes_at_once};

/// The size of a plane and of the windows on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows of an input plane, at least `kernel`; a plane has fewer than 2^32 pixels.
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
/// If the lengths are not those of the same number of planes, or a plane has 2^32 pixels.
pub fn forward<T: WithDType, O: Slot<T>>(x: &[T], window: Window, y: &mut [O]) {
    let (inputs, outputs) = (window.inputs(), window.outputs());
    assert!(u32::try_from(inputs).is_ok(), "max_pool2d: plane sizes");
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
                let mut row = Row::new();
                for (i, y) in y.chunks_exact_mut(window.out_width()).enumerate() {
                    row.find(x, window, i);
                    for (y, &best) in y.iter_mut().zip(&row.best) {
                        y.put(best);
                    }
                }
            }
        });
}

/// Writes every element of `dx`, the gradient by `x` given the gradient `dy` by the pooled planes.
///
/// # Panics
/// If the lengths are not those of the same number of planes, or a plane has 2^32 pixels.
pub fn backward<T: WithDType, O: Slot<T>>(x: &[T], dy: &[T], window: Window, dx: &mut [O]) {
    let (inputs, outputs) = (window.inputs(), window.outputs());
    assert!(u32::try_from(inputs).is_ok(), "max_pool2d: plane sizes");
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
        .for_each_init(
            || (Vec::new(), Row::new()),
            |(sums, row), ((x, dy), dx)| {
                if window.halves() {
                    backward_halves(x, dy, window.width, dx);
                    return;
                }
                sums.clear();
                sums.resize(inputs, T::zero());
                for (i, dy) in dy.chunks_exact(window.out_width()).enumerate() {
                    row.find(x, window, i);
                    for (&at, &dy) in row.at.iter().zip(dy) {
                        sums[at as usize] += dy;
                    }
                }
                for (dx, &sum) in dx.iter_mut().zip(&*sums) {
                    dx.put(sum);
                }
            },
        );
}

/// Adds to one plane `dx` the gradient by its pixels `x`, given the gradient `dy` by the pooled plane; windows of 2 x 2
/// at a stride of 2, even sides.
pub(crate) fn add_backward_plane(x: &[f32], dy: &[f32], window: Window, dx: &mut [f32]) {
    debug_assert!(window.halves() && window.width.is_multiple_of(2));
    if window.width > 0 {
        add_backward_halves(x, dy, window.width, dx);
    }
}

/// Whether `new` displaces `best`: it is larger, or NaN.
#[inline(always)]
#[allow(clippy::eq_op)] // only NaN differs from itself
fn displaces<T: WithDType>(new: T, best: T) -> bool {
    new > best || new != new
}

/// The maxima of one row of windows, and where in the plane the first of each lies.
struct Row<T> {
    best: Vec<T>,
    at: Vec<u32>,
}

impl<T: WithDType> Row<T> {
    fn new() -> Self {
        Self {
            best: Vec::new(),
            at: Vec::new(),
        }
    }

    /// Finds those of row `i`.
    fn find(&mut self, x: &[T], window: Window, i: usize) {
        self.best.resize(window.out_width(), T::zero());
        self.at.resize(window.out_width(), 0);
        row_maxima(x, window, i, &mut self.best, &mut self.at);
    }
}

dispatched! {
    /// Goes over the window's pixels outside and along the row inside, so that the inner loop vectorises where the
    /// stride is known to the compiler.
    fn row_maxima<T: WithDType>(x: &[T], window: Window, i: usize, best: &mut [T], at: &mut [u32]) {
        for row in 0..window.kernel {
            let start = (i * window.stride + row) * window.width;
            for column in 0..window.kernel {
                let pixels = &x[start + column..start + window.width];
                let here = (start + column) as u32;
                if row == 0 && column == 0 {
                    for (j, (best, at)) in best.iter_mut().zip(at.iter_mut()).enumerate() {
                        *best = pixels[j * window.stride];
                        *at = here + (j * window.stride) as u32;
                    }
                    continue;
                }
                match window.stride {
                    1 => displace(pixels, 1, here, best, at),
                    2 => displace(pixels, 2, here, best, at),
                    stride => displace(pixels, stride, here, best, at),
                }
            }
        }
    }
}

/// Replaces `best` by every `stride`-th pixel that displaces it; the first lies at `here` in its plane.
#[inline(always)]
fn displace<T: WithDType>(pixels: &[T], stride: usize, here: u32, best: &mut [T], at: &mut [u32]) {
    let Some((last_best, best)) = best.split_last_mut() else {
        return;
    };
    let Some((last_at, at)) = at.split_last_mut() else {
        return;
    };
    // The last window may end before a whole stride of pixels does.
    let last = pixels[best.len() * stride];
    for (j, ((pixels, best), at)) in pixels
        .chunks_exact(stride)
        .zip(best.iter_mut())
        .zip(at.iter_mut())
        .enumerate()
    {
        let displaced = displaces(pixels[0], *best);
        *best = if displaced { pixels[0] } else { *best };
        *at = if displaced {
            here.wrapping_add((j as u32).wrapping_mul(stride as u32))
        } else {
            *at
        };
    }
    if displaces(last, *last_best) {
        *last_best = last;
        *last_at = here + (at.len() * stride) as u32;
    }
}

/// Windows whose gradients are shared out at a time.
const COLUMNS: usize = 64;

/// Writes `even` and `odd` by turns.
#[inline(always)]
fn weave<T: WithDType, O: Slot<T>>(even: &[T], odd: &[T], to: &mut [O]) {
    for ((&even, &odd), to) in even.iter().zip(odd).zip(to.chunks_exact_mut(2)) {
        to[0].put(even);
        to[1].put(odd);
    }
}

/// Adds `even` and `odd` by turns.
#[inline(always)]
fn weave_in(even: &[f32], odd: &[f32], to: &mut [f32]) {
    for ((&even, &odd), to) in even.iter().zip(odd).zip(to.chunks_exact_mut(2)) {
        to[0] += even;
        to[1] += odd;
    }
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

/// Each of a window's four pixels' share of its gradient.
#[inline(always)]
fn share_out<T: WithDType>(top: &[T], bottom: &[T], dy: &[T], shares: &mut [[T; COLUMNS]; 4]) {
    let zero = T::zero();
    let [first, second, third, fourth] = shares;
    for ((((top, bottom), &dy), (first, second)), (third, fourth)) in top
        .chunks_exact(2)
        .zip(bottom.chunks_exact(2))
        .zip(dy)
        .zip(first.iter_mut().zip(second))
        .zip(third.iter_mut().zip(fourth))
    {
        let is_second = displaces(top[1], top[0]);
        let best = if is_second { top[1] } else { top[0] };
        let is_third = displaces(bottom[0], best);
        let best = if is_third { bottom[0] } else { best };
        let is_fourth = displaces(bottom[1], best);
        // What the later pixels leave over.
        let left = if is_fourth { zero } else { dy };
        *fourth = if is_fourth { dy } else { zero };
        *third = if is_third { left } else { zero };
        let left = if is_third { zero } else { left };
        *second = if is_second { left } else { zero };
        *first = if is_second { zero } else { left };
    }
}

dispatched! {
    /// [`backward_halves`] for even sides, added to what `dx` holds.
    fn add_backward_halves(x: &[f32], dy: &[f32], width: usize, dx: &mut [f32]) {
        let columns = width / 2;
        for ((x, dy), dx) in x
            .chunks_exact(2 * width)
            .zip(dy.chunks_exact(columns))
            .zip(dx.chunks_exact_mut(2 * width))
        {
            let ((top, bottom), (dtop, dbottom)) = (x.split_at(width), dx.split_at_mut(width));
            for start in (0..columns).step_by(COLUMNS) {
                let end = columns.min(start + COLUMNS);
                let pixels = 2 * start..2 * end;
                let mut shares = [[0.0; COLUMNS]; 4];
                share_out(&top[pixels.clone()], &bottom[pixels.clone()], &dy[start..end], &mut shares);
                let [first, second, third, fourth] = &shares;
                weave_in(first, second, &mut dtop[pixels.clone()]);
                weave_in(third, fourth, &mut dbottom[pixels]);
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
            // First each pixel's share in arrays of its own, then woven together: either loop alone vectorises.
            for start in (0..columns).step_by(COLUMNS) {
                let end = columns.min(start + COLUMNS);
                let (pixels, windows) = (2 * start..2 * end, start..end);
                let mut shares = [[zero; COLUMNS]; 4];
                share_out(&top[pixels.clone()], &bottom[pixels.clone()], &dy[windows], &mut shares);
                let [first, second, third, fourth] = &shares;
                weave(first, second, &mut dtop[pixels.clone()]);
                weave(third, fourth, &mut dbottom[pixels]);
            }
            if width % 2 == 1 {
                dtop[width - 1].put(zero);
                dbottom[width - 1].put(zero);
            }
        }
    }
}
