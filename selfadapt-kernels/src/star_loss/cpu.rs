//! StarDist's loss of distances and its gradient on CPU slices, in one pass over runs of pixels, sums in f64.

use rayon::prelude::*;

use super::Penalty;
use crate::math::Real;
use crate::simd::dispatched;
use crate::storage::{Slot, sum_over_runs};
use crate::sums::{BLOCK, lane_sum};

/// Pixels of one task.
const CHUNK: usize = 4096;
/// Pixels whose rays are gathered at a time.
const PIXELS: usize = 256;
/// Keras' epsilon, which keeps quotients finite.
const TINY: f64 = 1e-7;

/// A batch of maps and what is asked of it.
pub struct Problem<'a, T> {
    /// Predicted distances `[B, rays, pixels]`.
    pub predicted: &'a [T],
    /// Right distances, the same.
    pub right: &'a [T],
    /// Weights `[B, pixels]` in `[0, 1]`.
    pub weights: &'a [T],
    /// Rays of a pixel.
    pub rays: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// What a wrong distance costs.
    pub penalty: Penalty,
    /// Strength of the pull to 0 where the weights are below 1.
    pub background: f64,
}

/// What a term of a pixel counts in the loss.
#[derive(Clone, Copy)]
struct Shares<T> {
    /// A weight of 1: for the error of one ray, or for the whole error of [`Penalty::Overlap`].
    error: T,
    /// A weight of 0: for the length of one ray.
    length: T,
    /// What is added to sums that are divided by.
    tiny: T,
}

/// The loss; 0 where there is no pixel or no ray. Writes every element of `gradient` where one is given.
///
/// # Panics
/// If the lengths do not fit.
pub fn star_loss_of<T: Real, O: Slot<T>>(problem: &Problem<T>, gradient: Option<&mut [O]>) -> f64 {
    let &Problem {
        predicted,
        right,
        weights,
        rays,
        pixels,
        ..
    } = problem;
    let len = predicted.len();
    let written = gradient.as_ref().map_or(len, |g| g.len());
    assert!(
        right.len() == len
            && written == len
            && weights.len() * rays == len
            && weights.len().is_multiple_of(pixels.max(1)),
        "star_loss: lengths"
    );
    if len == 0 {
        return 0.;
    }
    let (count, of_rays) = (weights.len() as f64, rays as f64);
    let sums = weights.par_chunks(BLOCK).map(|part| lane_sum(part, |m| m));
    let total: f64 = sums.collect::<Vec<f64>>().iter().sum();
    let whole = 1. / (total + count * TINY);
    let shares = Shares {
        error: T::from_f64(match problem.penalty {
            Penalty::Absolute | Penalty::Squared => whole / of_rays,
            Penalty::Overlap => whole,
        }),
        length: T::from_f64(problem.background / (count * of_rays)),
        tiny: T::from_f64(of_rays * TINY),
    };
    let shape = [weights.len() / pixels, rays, pixels];
    sum_over_runs(gradient, shape, CHUNK, |image, run, gradient| {
        let planes = image * rays * pixels..(image + 1) * rays * pixels;
        let first = run.start;
        let weights = &weights[image * pixels..][run];
        let (predicted, right) = (&predicted[planes.clone()], &right[planes]);
        let of_rays = |squared, gradient| {
            run_of_pixels::<T, O>(
                predicted, right, weights, first, pixels, squared, shares, gradient,
            )
        };
        match problem.penalty {
            Penalty::Absolute => of_rays(false, gradient),
            Penalty::Squared => of_rays(true, gradient),
            Penalty::Overlap => overlaps_of_pixels::<T, O>(
                predicted, right, weights, first, pixels, shares, gradient,
            ),
        }
    })
}

/// The sign of a number, 0 for 0.
#[inline(always)]
fn sign<T: Real>(value: T) -> T {
    let above = if value > T::zero() {
        T::one()
    } else {
        T::zero()
    };
    let below = if value < T::zero() {
        T::one()
    } else {
        T::zero()
    };
    above - below
}

dispatched! {
    /// The loss of pixels `first..first + weights.len()` of one image; ray k of pixel p is at `k * pixels + p`.
    fn run_of_pixels<T: Real, O: Slot<T>>(
        predicted: &[T],
        right: &[T],
        weights: &[T],
        first: usize,
        pixels: usize,
        squared: bool,
        shares: Shares<T>,
        gradient: Option<&mut [&mut [O]]>,
    ) -> f64 {
        let mut gradient = gradient;
        let mut sum = 0.;
        for start in (0..weights.len()).step_by(PIXELS) {
            let weights = &weights[start..weights.len().min(start + PIXELS)];
            let n = weights.len();
            let mut terms = [T::zero(); PIXELS];
            for k in 0..predicted.len() / pixels {
                let ray = k * pixels + first + start..k * pixels + first + start + n;
                let inputs = predicted[ray.clone()].iter().zip(&right[ray]).zip(weights);
                let mut slopes = [T::zero(); PIXELS];
                for (((&p, &t), &m), (term, slope)) in inputs.zip(terms.iter_mut().zip(&mut slopes)) {
                    let (error, length) = (m * shares.error, (T::one() - m) * shares.length);
                    let apart = p - t;
                    let (value, by) = if squared {
                        (apart * apart, apart + apart)
                    } else {
                        (apart.magnitude(), sign(apart))
                    };
                    *term += error * value + length * p.magnitude();
                    *slope = error * by + length * sign(p);
                }
                if let Some(gradient) = &mut gradient {
                    let slots = gradient[k][start..start + n].iter_mut();
                    slots.zip(&slopes).for_each(|(slot, &slope)| slot.put(slope));
                }
            }
            sum += lane_sum(&terms[..n], |v| v);
        }
        sum
    }
}

dispatched! {
    /// As [`run_of_pixels`], for [`Penalty::Overlap`], whose rays belong together.
    fn overlaps_of_pixels<T: Real, O: Slot<T>>(
        predicted: &[T],
        right: &[T],
        weights: &[T],
        first: usize,
        pixels: usize,
        shares: Shares<T>,
        gradient: Option<&mut [&mut [O]]>,
    ) -> f64 {
        let mut gradient = gradient;
        let rays = predicted.len() / pixels;
        let mut sum = 0.;
        for start in (0..weights.len()).step_by(PIXELS) {
            let weights = &weights[start..weights.len().min(start + PIXELS)];
            let n = weights.len();
            let ray = |k: usize| k * pixels + first + start..k * pixels + first + start + n;
            let zeros = [T::zero(); PIXELS];
            let (mut shared, mut joined, mut length) = (zeros, zeros, zeros);
            for k in 0..rays {
                let inputs = predicted[ray(k)].iter().zip(&right[ray(k)]);
                let sums = shared.iter_mut().zip(&mut joined).zip(&mut length);
                for ((&p, &t), ((shared, joined), length)) in inputs.zip(sums) {
                    let (less, more) = if p < t { (p, t) } else { (t, p) };
                    *shared += sign(p) * less * less;
                    *joined += more * more;
                    *length += p.magnitude();
                }
            }
            let mut terms = zeros;
            for (i, term) in terms[..n].iter_mut().enumerate() {
                let m = weights[i];
                joined[i] += shares.tiny;
                let lacks = T::one() - shared[i] / joined[i];
                *term = m * shares.error * lacks + (T::one() - m) * shares.length * length[i];
            }
            sum += lane_sum(&terms[..n], |v| v);
            let Some(gradient) = &mut gradient else { continue };
            for (k, gradient) in gradient.iter_mut().enumerate() {
                let slots = gradient[start..start + n].iter_mut().enumerate();
                let inputs = predicted[ray(k)].iter().zip(&right[ray(k)]);
                for ((i, slot), (&p, &t)) in slots.zip(inputs) {
                    let (m, joined) = (weights[i], joined[i]);
                    let by_shared = if p < t { p.magnitude() + p.magnitude() } else { T::zero() };
                    let by_union = if p > t { p + p } else { T::zero() };
                    let by = (shared[i] * by_union - by_shared * joined) / (joined * joined);
                    slot.put(m * shares.error * by + (T::one() - m) * shares.length * sign(p));
                }
            }
        }
        sum
    }
}
