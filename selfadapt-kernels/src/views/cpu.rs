//! Turning planes and merging turned planes on the CPU, through strides: nothing is copied to be made contiguous.

use candle_core::{CpuStorage, Layout, Result};
use rayon::prelude::*;

use super::{Activation, View};
use crate::math::Real;
use crate::simd::dispatched;
use crate::storage::{Slot, by_pixels, planes_at_once};

/// Rows of one task.
const ROWS: usize = 16;

/// A batch of planes `[B, C, H, W]` in any strided layout.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a, T> {
    values: &'a [T],
    start: usize,
    size: [usize; 4],
    stride: [usize; 4],
}

impl<'a, T: Real> Planes<'a, T> {
    /// The planes of a CPU tensor.
    ///
    /// # Errors
    /// If it has not four axes or not the type `T`.
    pub fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let mut stride = [0; 4];
        stride.copy_from_slice(layout.stride());
        Ok(Self {
            values: storage.as_slice()?,
            start: layout.start_offset(),
            size: [b, c, h, w],
            stride,
        })
    }

    /// Height and width of a plane.
    fn sides(&self) -> (usize, usize) {
        (self.size[2], self.size[3])
    }

    /// Where the first element of a plane is.
    fn origin(&self, image: usize, channel: usize) -> usize {
        self.start + image * self.stride[0] + channel * self.stride[1]
    }

    /// Offset in its plane of pixel (i, j).
    fn offset(&self, (i, j): (usize, usize)) -> usize {
        i * self.stride[2] + j * self.stride[3]
    }
}

/// An affine walk over a plane: where pixel (0, 0) is, and the steps to the next row and column.
#[derive(Clone, Copy)]
struct Walk {
    first: usize,
    down: isize,
    right: isize,
}

impl Walk {
    /// The walk over an `h x w` grid whose pixels are at `at(y, x)`.
    fn new((h, w): (usize, usize), at: impl Fn(usize, usize) -> usize) -> Self {
        let step = |to: usize| to as isize - at(0, 0) as isize;
        Self {
            first: at(0, 0),
            down: if h > 1 { step(at(1, 0)) } else { 0 },
            right: if w > 1 { step(at(0, 1)) } else { 0 },
        }
    }
}

/// Writes every element of `y`, the view of `x`, plane by plane.
///
/// # Panics
/// If `y` has another number of elements.
pub fn turn<T: Real, O: Slot<T>>(x: &Planes<T>, view: View, y: &mut [O]) {
    let (h, w) = x.sides();
    assert_eq!(y.len(), x.size.iter().product::<usize>(), "turn: elements");
    if y.is_empty() {
        return;
    }
    let turned = if view.swaps_axes() { (w, h) } else { (h, w) };
    // Pixel (i, j) of the view lies where the inverse view of the view would put it.
    let inverse = view.inverse();
    let walk = Walk::new(turned, |i, j| x.offset(inverse.position(turned, i, j)));
    y.par_chunks_mut(h * w)
        .with_min_len(planes_at_once(h * w))
        .enumerate()
        .for_each(|(plane, y)| {
            let origin = x.origin(plane / x.size[1], plane % x.size[1]);
            for (i, y) in y.chunks_exact_mut(turned.1).enumerate() {
                gather(x.values, row_start(origin, walk, i), walk.right, y);
            }
        });
}

fn row_start(origin: usize, walk: Walk, row: usize) -> usize {
    (origin + walk.first).wrapping_add_signed(walk.down * row as isize)
}

/// Undoes `view` on `x` and adds the result to running moments `[B, channels.len(), H, W]` as their `count`-th sample.
///
/// Output channel k is channel `channels[k].0` of the activated `x` times the sign `channels[k].1`.
///
/// # Panics
/// If the moments have other sizes, a source channel does not exist, or `count` is 0.
pub fn accumulate<T: Real>(
    x: &Planes<T>,
    view: View,
    channels: &[(usize, f32)],
    activation: Activation,
    count: usize,
    mean: &mut [T],
    squares: &mut [T],
) {
    let [batch, sources, h, w] = x.size;
    let (h, w) = if view.swaps_axes() { (w, h) } else { (h, w) };
    let len = batch * channels.len() * h * w;
    assert!(
        mean.len() == len
            && squares.len() == len
            && count > 0
            && channels.iter().all(|c| c.0 < sources),
        "views merge: moments, channels and count"
    );
    let walk = if len == 0 {
        return;
    } else {
        Walk::new((h, w), |y, x_| x.offset(view.position((h, w), y, x_)))
    };
    let share = T::from_f64(1.0 / count as f64);
    let bands = h.div_ceil(ROWS);
    let mut tasks: Vec<_> = by_pixels(mean, channels.len(), h * w, ROWS * w)
        .into_iter()
        .zip(by_pixels(squares, channels.len(), h * w, ROWS * w))
        .collect();
    tasks
        .par_iter_mut()
        .enumerate()
        .for_each_init(Vec::new, |row, (task, (mean, squares))| {
            let (image, first) = (task / bands, task % bands * ROWS);
            row.resize(sources * w, T::zero());
            for y in first..h.min(first + ROWS) {
                for (source, row) in row.chunks_exact_mut(w).enumerate() {
                    gather(
                        x.values,
                        row_start(x.origin(image, source), walk, y),
                        walk.right,
                        row,
                    );
                }
                match activation {
                    Activation::Identity => {}
                    Activation::Sigmoid => sigmoid(row),
                    Activation::Softmax => softmax(row, w),
                }
                let here = (y - first) * w..(y - first + 1) * w;
                for ((&(source, sign), mean), squares) in
                    channels.iter().zip(mean.iter_mut()).zip(squares.iter_mut())
                {
                    let values = &row[source * w..][..w];
                    let sign = T::from_f64(f64::from(sign));
                    welford(
                        values,
                        sign,
                        share,
                        &mut mean[here.clone()],
                        &mut squares[here.clone()],
                    );
                }
            }
        });
}

dispatched! {
    fn gather<T: Real, O: Slot<T>>(values: &[T], start: usize, step: isize, row: &mut [O]) {
        if step == 1 {
            let values = &values[start..start + row.len()];
            for (to, &from) in row.iter_mut().zip(values) {
                to.put(from);
            }
        } else {
            let mut at = start;
            for to in row {
                to.put(values[at]);
                at = at.wrapping_add_signed(step);
            }
        }
    }
}

dispatched! {
    fn sigmoid<T: Real>(row: &mut [T]) {
        for value in row {
            *value = value.sigmoid();
        }
    }
}

dispatched! {
    /// Softmax over the rows of `[channels, w]`.
    fn softmax<T: Real>(rows: &mut [T], w: usize) {
        const COLUMNS: usize = 64;
        for start in (0..w).step_by(COLUMNS) {
            let end = w.min(start + COLUMNS);
            let (mut largest, mut total) = ([T::zero(); COLUMNS], [T::zero(); COLUMNS]);
            largest[..end - start].copy_from_slice(&rows[start..end]);
            for row in rows.chunks_exact(w).skip(1) {
                for (largest, &value) in largest.iter_mut().zip(&row[start..end]) {
                    *largest = if value > *largest { value } else { *largest };
                }
            }
            for row in rows.chunks_exact_mut(w) {
                for ((value, total), &largest) in row[start..end].iter_mut().zip(&mut total).zip(&largest) {
                    *value = (*value - largest).exp_nonpositive();
                    *total += *value;
                }
            }
            for row in rows.chunks_exact_mut(w) {
                for (value, &total) in row[start..end].iter_mut().zip(&total) {
                    *value /= total;
                }
            }
        }
    }
}

dispatched! {
    fn welford<T: Real>(values: &[T], sign: T, share: T, mean: &mut [T], squares: &mut [T]) {
        for ((&value, mean), squares) in values.iter().zip(mean).zip(squares) {
            let value = value * sign;
            let off = value - *mean;
            *mean += off * share;
            *squares += off * (value - *mean);
        }
    }
}
