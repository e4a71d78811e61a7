//! Masked losses and their gradients on CPU slices, in one pass, sums in f64.

use rayon::prelude::*;

use crate::math::Real;
use crate::simd::dispatched;
use crate::storage::{Slot, sum_over_runs};
use crate::sums::{BLOCK, lane_sum};

/// Elements or pixels of one task.
const CHUNK: usize = 16 * BLOCK;
/// Pixels whose classes are gathered at a time.
const PIXELS: usize = 256;

/// A loss of one number against another.
pub trait Pointwise<T>: Sync {
    /// The loss and its derivative by the prediction.
    fn loss(&self, prediction: T, target: T) -> (T, T);
}

/// `-t ln s(l) - (1 - t) ln(1 - s(l))` of a logit l and a probability t, s the logistic function.
#[derive(Debug)]
pub struct BinaryCrossEntropy;

impl<T: Real> Pointwise<T> for BinaryCrossEntropy {
    #[inline(always)]
    fn loss(&self, logit: T, probability: T) -> (T, T) {
        // max(l, 0) - l t + ln(1 + e^-|l|) overflows nowhere.
        let small = (T::zero() - logit.magnitude()).exp_nonpositive();
        let winner = T::one() / (T::one() + small);
        let (positive, sigmoid) = if logit < T::zero() {
            (T::zero(), small * winner)
        } else {
            (logit, winner)
        };
        (
            positive - logit * probability + small.ln_1p_unit(),
            sigmoid - probability,
        )
    }
}

/// `(p - t)^2`.
#[derive(Debug)]
pub struct SquaredError;

impl<T: Real> Pointwise<T> for SquaredError {
    #[inline(always)]
    fn loss(&self, prediction: T, target: T) -> (T, T) {
        let difference = prediction - target;
        (difference * difference, difference + difference)
    }
}

/// How many elements a mask of zeros and ones keeps.
pub fn kept<T: Real>(mask: &[T]) -> f64 {
    let parts: Vec<f64> = mask
        .par_chunks(CHUNK)
        .map(|chunk| chunk.chunks(BLOCK).map(|m| lane_sum(m, |v| v)).sum())
        .collect();
    parts.iter().sum()
}

/// One over the count, or 0 where nothing is kept.
fn share<T: Real>(mask: &[T]) -> f64 {
    let kept = kept(mask);
    if kept > 0.0 { 1.0 / kept } else { 0.0 }
}

/// The mean loss over the elements that `mask` keeps, 0 if none. Writes every element of `gradient` where one is given.
///
/// # Panics
/// If the lengths differ.
pub fn masked_mean<T: Real, L: Pointwise<T>, O: Slot<T>>(
    loss: &L,
    prediction: &[T],
    target: &[T],
    mask: &[T],
    gradient: Option<&mut [O]>,
) -> f64 {
    let len = prediction.len();
    let written = gradient.as_ref().map_or(len, |g| g.len());
    assert_eq!(
        (target.len(), mask.len(), written),
        (len, len, len),
        "masked loss: lengths"
    );
    let share = share(mask);
    let inputs = prediction
        .par_chunks(CHUNK)
        .zip(target.par_chunks(CHUNK))
        .zip(mask.par_chunks(CHUNK));
    let parts: Vec<f64> = match gradient {
        Some(gradient) => inputs
            .zip(gradient.par_chunks_mut(CHUNK))
            .map(|(((p, t), m), g)| {
                pointwise::<T, L, O>(loss, p, t, m, T::from_f64(share), Some(g))
            })
            .collect(),
        None => inputs
            .map(|((p, t), m)| pointwise::<T, L, O>(loss, p, t, m, T::from_f64(share), None))
            .collect(),
    };
    parts.iter().sum::<f64>() * share
}

dispatched! {
    fn pointwise<T: Real, L: Pointwise<T>, O: Slot<T>>(
        loss: &L,
        prediction: &[T],
        target: &[T],
        mask: &[T],
        share: T,
        gradient: Option<&mut [O]>,
    ) -> f64 {
        let mut gradient = gradient;
        let mut sum = 0.0;
        let (mut terms, mut slopes) = ([T::zero(); BLOCK], [T::zero(); BLOCK]);
        for start in (0..prediction.len()).step_by(BLOCK) {
            let end = (start + BLOCK).min(prediction.len());
            let inputs = prediction[start..end].iter().zip(&target[start..end]).zip(&mask[start..end]);
            for (((&p, &t), &m), (term, slope)) in inputs.zip(terms.iter_mut().zip(&mut slopes)) {
                let (value, derivative) = loss.loss(p, t);
                // Selected, not multiplied: what is masked may be infinite or NaN.
                let keeps = m > T::zero();
                *term = if keeps { value } else { T::zero() };
                *slope = if keeps { derivative * share } else { T::zero() };
            }
            if let Some(gradient) = &mut gradient {
                gradient[start..end].iter_mut().zip(&slopes).for_each(|(g, &slope)| g.put(slope));
            }
            sum += lane_sum(&terms[..end - start], |v| v);
        }
        sum
    }
}

/// The mean over kept pixels of `-sum_k t_k ln softmax(logits)_k`, 0 if none is kept. `logits` and `target` are
/// `[B, classes, pixels]`, `mask` is `[B, pixels]`. Writes every element of `gradient` where one is given.
///
/// # Panics
/// If the lengths do not fit.
pub fn cross_entropy<T: Real, O: Slot<T>>(
    logits: &[T],
    target: &[T],
    mask: &[T],
    classes: usize,
    pixels: usize,
    gradient: Option<&mut [O]>,
) -> f64 {
    let len = logits.len();
    let written = gradient.as_ref().map_or(len, |g| g.len());
    assert!(
        target.len() == len
            && written == len
            && mask.len() * classes == len
            && mask.len().is_multiple_of(pixels.max(1)),
        "masked_cross_entropy: lengths"
    );
    if len == 0 {
        return 0.0;
    }
    let share = share(mask);
    let shape = [mask.len() / pixels, classes, pixels];
    let sum = sum_over_runs(gradient, shape, CHUNK, |image, run, gradient| {
        let planes = image * classes * pixels..(image + 1) * classes * pixels;
        let first = run.start;
        let mask = &mask[image * pixels..][run];
        let (logits, target) = (&logits[planes.clone()], &target[planes]);
        let share = T::from_f64(share);
        classes_of_pixels::<T, O>(logits, target, mask, first, pixels, share, gradient)
    });
    sum * share
}

dispatched! {
    /// Pixels `first..first + mask.len()` of one image; class k of pixel p is at `k * pixels + p`.
    fn classes_of_pixels<T: Real, O: Slot<T>>(
        logits: &[T],
        target: &[T],
        mask: &[T],
        first: usize,
        pixels: usize,
        share: T,
        gradient: Option<&mut [&mut [O]]>,
    ) -> f64 {
        let mut gradient = gradient;
        let classes = logits.len() / pixels;
        let zero = [T::zero(); PIXELS];
        let mut sum = 0.0;
        for start in (0..mask.len()).step_by(PIXELS) {
            let mask = &mask[start..mask.len().min(start + PIXELS)];
            let n = mask.len();
            let class = |k: usize| k * pixels + first + start..k * pixels + first + start + n;
            let mut largest = zero;
            largest[..n].copy_from_slice(&logits[class(0)]);
            for k in 1..classes {
                for (largest, &l) in largest.iter_mut().zip(&logits[class(k)]) {
                    *largest = if l > *largest { l } else { *largest };
                }
            }
            let (mut total, mut weight, mut terms) = (zero, zero, zero);
            for k in 0..classes {
                let inputs = logits[class(k)].iter().zip(&target[class(k)]).zip(&largest);
                for (((&l, &t), &largest), ((total, weight), term)) in
                    inputs.zip(total.iter_mut().zip(&mut weight).zip(&mut terms))
                {
                    *total += (l - largest).exp_nonpositive();
                    *weight += t;
                    *term += t * (largest - l);
                }
            }
            for (((term, &total), &weight), &m) in terms.iter_mut().zip(&total).zip(&weight).zip(mask) {
                let loss = *term + weight * total.ln_from_one();
                *term = if m > T::zero() { loss } else { T::zero() };
            }
            sum += lane_sum(&terms[..n], |v| v);
            let Some(gradient) = &mut gradient else { continue };
            for (total, &weight) in total.iter_mut().zip(&weight) {
                *total = weight / *total;
            }
            for (k, gradient) in gradient.iter_mut().enumerate() {
                let inputs = logits[class(k)].iter().zip(&target[class(k)]).zip(&largest).zip(&total).zip(mask);
                for (((((&l, &t), &largest), &scale), &m), g) in inputs.zip(&mut gradient[start..start + n]) {
                    let slope = ((l - largest).exp_nonpositive() * scale - t) * share;
                    g.put(if m > T::zero() { slope } else { T::zero() });
                }
            }
        }
        sum
    }
}
