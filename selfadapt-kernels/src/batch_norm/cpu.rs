//! Batch norm on CPU slices of shape `[B, C, pixels]`, one plane at a time, sums in f64.

use candle_core::WithDType;
use rayon::prelude::*;

use crate::simd::dispatched;
use crate::storage::{Slot, planes_at_once};
use crate::sums::{BLOCK, lane_sum};

/// Mean and biased variance of every channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// One mean a channel.
    pub mean: Vec<f64>,
    /// One variance a channel, divided by the count.
    pub variance: Vec<f64>,
}

/// What a gradient needs of every channel: the gradients by gamma and beta.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGradients {
    /// Gradient by gamma, one a channel.
    pub gamma: Vec<f64>,
    /// Gradient by beta, one a channel.
    pub beta: Vec<f64>,
}

/// The moments of `x [B, channels, pixels]`, read once.
///
/// # Panics
/// If `x` is empty or not made of whole planes.
pub fn moments<T: WithDType>(x: &[T], channels: usize, pixels: usize) -> Moments {
    assert!(
        !x.is_empty() && x.len().is_multiple_of(channels * pixels),
        "batch_norm: plane sizes"
    );
    let planes: Vec<(f64, f64)> = x
        .par_chunks(pixels)
        .with_min_len(planes_at_once(pixels))
        .map(plane_moments)
        .collect();
    let batch = planes.len() / channels;
    let of_channel = |c: usize| planes.iter().skip(c).step_by(channels);
    let mean: Vec<f64> = (0..channels)
        .map(|c| of_channel(c).map(|(mean, _)| mean).sum::<f64>() / batch as f64)
        .collect();
    let variance = (0..channels)
        .map(|c| {
            let squares = of_channel(c).map(|(m, s)| s + pixels as f64 * (m - mean[c]).powi(2));
            squares.sum::<f64>() / (batch * pixels) as f64
        })
        .collect();
    Moments { mean, variance }
}

/// A batch norm whose statistics and parameters are known: an affine map per channel.
#[derive(Clone, Debug)]
pub struct Affine<T> {
    pixels: usize,
    relu: bool,
    mean: Vec<T>,
    inverse_deviation: Vec<f64>,
    scale: Vec<T>,
    shift: Vec<T>,
}

impl<T: WithDType> Affine<T> {
    /// Folds `gamma (x - mean) / sqrt(variance + eps) + beta` for planes of `pixels`; `relu` clips at 0.
    ///
    /// # Panics
    /// If the four have different lengths.
    pub fn new(
        moments: &Moments,
        gamma: &[T],
        beta: &[T],
        eps: f64,
        pixels: usize,
        relu: bool,
    ) -> Self {
        let channels = gamma.len();
        assert_eq!(
            (beta.len(), moments.mean.len(), moments.variance.len()),
            (channels, channels, channels),
            "batch_norm: channels"
        );
        let inverse_deviation: Vec<f64> = moments
            .variance
            .iter()
            .map(|v| 1.0 / (v + eps).sqrt())
            .collect();
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&inverse_deviation)
            .map(|(g, i)| g.to_f64() * i)
            .collect();
        let shift = (0..channels).map(|c| beta[c].to_f64() - moments.mean[c] * scale[c]);
        Self {
            pixels,
            relu,
            mean: moments.mean.iter().map(|&m| T::from_f64(m)).collect(),
            shift: shift.map(T::from_f64).collect(),
            scale: scale.into_iter().map(T::from_f64).collect(),
            inverse_deviation,
        }
    }

    /// Writes every element of `y`, the normalised `x`.
    ///
    /// # Panics
    /// If the lengths differ or are not of whole planes.
    pub fn forward<O: Slot<T>>(&self, x: &[T], y: &mut [O]) {
        self.check(x.len(), y.len());
        x.par_chunks(self.pixels.max(1))
            .zip(y.par_chunks_mut(self.pixels.max(1)))
            .with_min_len(planes_at_once(self.pixels))
            .enumerate()
            .for_each(|(plane, (x, y))| {
                let c = plane % self.scale.len();
                affine(x, self.scale[c], self.shift[c], self.relu, y);
            });
    }

    /// The gradients by gamma and beta, given the gradient `dy` by the output.
    ///
    /// # Panics
    /// If the lengths differ or are not of whole planes.
    pub fn parameter_gradients(&self, x: &[T], dy: &[T]) -> ParameterGradients {
        self.check(x.len(), dy.len());
        let channels = self.scale.len();
        let planes: Vec<(f64, f64)> = x
            .par_chunks(self.pixels.max(1))
            .zip(dy.par_chunks(self.pixels.max(1)))
            .with_min_len(planes_at_once(self.pixels))
            .enumerate()
            .map(|(plane, (x, dy))| {
                let c = plane % channels;
                plane_gradients(x, dy, self.mean[c], self.scale[c], self.shift[c], self.relu)
            })
            .collect();
        let of_channel = |c: usize| planes.iter().skip(c).step_by(channels);
        ParameterGradients {
            gamma: (0..channels)
                .map(|c| {
                    of_channel(c).map(|(_, moment)| moment).sum::<f64>() * self.inverse_deviation[c]
                })
                .collect(),
            beta: (0..channels)
                .map(|c| of_channel(c).map(|(sum, _)| sum).sum())
                .collect(),
        }
    }

    /// Writes every element of `dx`, the gradient by `x`, given the gradient `dy` by the output. With
    /// `through_moments` the moments are those of `x` itself and the gradient passes through them.
    ///
    /// # Panics
    /// If the lengths differ or are not of whole planes.
    pub fn input_gradient<O: Slot<T>>(
        &self,
        x: &[T],
        dy: &[T],
        through_moments: Option<&ParameterGradients>,
        dx: &mut [O],
    ) {
        self.check(x.len(), dy.len());
        self.check(x.len(), dx.len());
        let channels = self.scale.len();
        let count = x.len() as f64 / channels as f64;
        x.par_chunks(self.pixels.max(1))
            .zip(dy.par_chunks(self.pixels.max(1)))
            .zip(dx.par_chunks_mut(self.pixels.max(1)))
            .with_min_len(planes_at_once(self.pixels))
            .enumerate()
            .for_each(|(plane, ((x, dy), dx))| {
                let c = plane % channels;
                let (slope, offset) = match through_moments {
                    None => (0.0, 0.0),
                    Some(gradients) => (
                        -self.scale[c].to_f64() * self.inverse_deviation[c] * gradients.gamma[c]
                            / count,
                        -self.scale[c].to_f64() * gradients.beta[c] / count,
                    ),
                };
                let pull = through_moments.map(|_| (T::from_f64(slope), T::from_f64(offset)));
                plane_input_gradient(
                    x,
                    dy,
                    self.mean[c],
                    self.scale[c],
                    self.shift[c],
                    self.relu,
                    pull,
                    dx,
                );
            });
    }

    fn check(&self, x: usize, other: usize) {
        assert!(
            x == other && (x == 0 || x.is_multiple_of(self.scale.len() * self.pixels)),
            "batch_norm: {x} and {other} elements, {} channels of {} pixels",
            self.scale.len(),
            self.pixels
        );
    }
}

dispatched! {
    /// Mean and sum of squared deviations, block by block while a block is in cache.
    fn plane_moments<T: WithDType>(x: &[T]) -> (f64, f64) {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for block in x.chunks(BLOCK) {
            let n = block.len() as f64;
            let block_mean = lane_sum(block, |v| v) / n;
            let pivot = T::from_f64(block_mean);
            let about_pivot = lane_sum(block, |v| (v - pivot) * (v - pivot));
            // Chan's rule for merging moments.
            let (delta, total) = (block_mean - mean, count + n);
            squares += about_pivot - n * (block_mean - pivot.to_f64()).powi(2)
                + delta * delta * count * n / total;
            mean += delta * n / total;
            count = total;
        }
        (mean, squares)
    }
}

/// Whether the output is cut off; NaN is not.
#[inline(always)]
fn cut<T: WithDType>(relu: bool, y: T) -> bool {
    relu & (y <= T::zero())
}

dispatched! {
    fn affine<T: WithDType, O: Slot<T>>(x: &[T], scale: T, shift: T, relu: bool, y: &mut [O]) {
        for (&x, y) in x.iter().zip(y) {
            let value = x * scale + shift;
            y.put(if cut(relu, value) { T::zero() } else { value });
        }
    }
}

dispatched! {
    /// Sum of `dy`, and of `dy (x - mean)`, where the output is not cut off.
    fn plane_gradients<T: WithDType>(
        x: &[T],
        dy: &[T],
        mean: T,
        scale: T,
        shift: T,
        relu: bool,
    ) -> (f64, f64) {
        let (mut sum, mut moment) = (0.0, 0.0);
        let (mut passed, mut products) = ([T::zero(); BLOCK], [T::zero(); BLOCK]);
        for (x, dy) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)) {
            let (passed, products) = (&mut passed[..x.len()], &mut products[..x.len()]);
            let outputs = passed.iter_mut().zip(products.iter_mut());
            for ((&x, &dy), (passed, product)) in x.iter().zip(dy).zip(outputs) {
                *passed = if cut(relu, x * scale + shift) { T::zero() } else { dy };
                *product = *passed * (x - mean);
            }
            sum += lane_sum(passed, |v| v);
            moment += lane_sum(products, |v| v);
        }
        (sum, moment)
    }
}

dispatched! {
    fn plane_input_gradient<T: WithDType, O: Slot<T>>(
        x: &[T],
        dy: &[T],
        mean: T,
        scale: T,
        shift: T,
        relu: bool,
        pull: Option<(T, T)>,
        dx: &mut [O],
    ) {
        let (slope, offset) = pull.unwrap_or((T::zero(), T::zero()));
        for ((&x, &dy), dx) in x.iter().zip(dy).zip(dx) {
            let passed = if cut(relu, x * scale + shift) { T::zero() } else { dy };
            dx.put(passed * scale + ((x - mean) * slope + offset));
        }
    }
}
