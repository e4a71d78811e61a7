//! One step of AdamW on slices.

use rayon::prelude::*;

use super::{AdamW, Settings};
use crate::simd::dispatched;
use crate::storage::CHUNK;
use crate::sums::{BLOCK, lane_sum};

/// A step's numbers, folded once for all weights.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients {
    pub(super) scale: f32,
    pub(super) pull: f32,
    pub(super) keep: f32,
    pub(super) first_share: f32,
    pub(super) second_stays: f32,
    pub(super) second_share: f32,
    pub(super) step: f32,
    pub(super) inverse_root: f32,
    pub(super) eps: f32,
}

impl Coefficients {
    /// Those of step number `steps`, the first being 1.
    pub fn new(optimizer: &AdamW, steps: u64, settings: &Settings) -> Self {
        let power = |beta: f64| beta.powf(steps as f64);
        Self {
            scale: settings.scale as f32,
            pull: settings.l2sp as f32,
            keep: (1.0 - settings.rate * settings.weight_decay) as f32,
            first_share: (1.0 - optimizer.beta1) as f32,
            second_stays: optimizer.beta2 as f32,
            second_share: (1.0 - optimizer.beta2) as f32,
            step: (settings.rate / (1.0 - power(optimizer.beta1))) as f32,
            inverse_root: (1.0 / (1.0 - power(optimizer.beta2)).sqrt()) as f32,
            eps: optimizer.eps as f32,
        }
    }
}

/// Moves `weight` and its moments, and `teacher` by its momentum if there is one; returns `|weight - anchor|^2` before
/// the step, 0 without a pull.
///
/// # Panics
/// If the lengths differ.
pub fn update(
    weight: &mut [f32],
    gradient: &[f32],
    anchor: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    teacher: Option<(&mut [f32], f64)>,
    coefficients: &Coefficients,
) -> f64 {
    let len = weight.len();
    assert!(
        [gradient.len(), anchor.len(), first.len(), second.len()]
            .iter()
            .all(|&l| l == len)
            && teacher.as_ref().is_none_or(|t| t.0.len() == len),
        "adamw: lengths"
    );
    update_blocks(
        weight,
        gradient,
        anchor,
        first,
        second,
        teacher,
        coefficients,
    )
}

dispatched! {
    fn update_blocks(
        weight: &mut [f32],
        gradient: &[f32],
        anchor: &[f32],
        first: &mut [f32],
        second: &mut [f32],
        teacher: Option<(&mut [f32], f64)>,
        c: &Coefficients,
    ) -> f64 {
        let (mut teacher, momentum) = teacher.map_or((None, 0.0), |(t, momentum)| (Some(t), momentum));
        let (stays, comes) = (momentum as f32, (1.0 - momentum) as f32);
        let mut distance = 0.0;
        // Block by block, so that each loop finds its numbers in cache.
        for start in (0..weight.len()).step_by(BLOCK) {
            let block = start..weight.len().min(start + BLOCK);
            let weight = &mut weight[block.clone()];
            let mut total = [0f32; BLOCK];
            let total = &mut total[..weight.len()];
            if c.pull == 0.0 {
                for (total, &g) in total.iter_mut().zip(&gradient[block.clone()]) {
                    *total = g * c.scale;
                }
            } else {
                // The distance from the anchor first, then the gradient in its place.
                for (total, (&w, &a)) in total.iter_mut().zip(weight.iter().zip(&anchor[block.clone()])) {
                    *total = w - a;
                }
                distance += lane_sum(total, |d| d * d);
                for (total, &g) in total.iter_mut().zip(&gradient[block.clone()]) {
                    *total = g * c.scale + *total * c.pull;
                }
            }
            let moments = first[block.clone()].iter_mut().zip(&mut second[block.clone()]);
            for ((w, &g), (m, v)) in weight.iter_mut().zip(&*total).zip(moments) {
                *m += (g - *m) * c.first_share;
                *v = *v * c.second_stays + g * g * c.second_share;
                *w = *w * c.keep - c.step * (*m / (v.sqrt() * c.inverse_root + c.eps));
            }
            if let Some(teacher) = &mut teacher {
                for (t, &w) in teacher[block].iter_mut().zip(&*weight) {
                    *t = *t * stays + w * comes;
                }
            }
        }
        distance
    }
}

/// Sum of squares, in f64 across blocks, in a fixed order.
pub fn squared_norm(values: &[f32]) -> f64 {
    let parts: Vec<f64> = values.par_chunks(CHUNK).map(chunk_norm).collect();
    parts.iter().sum()
}

dispatched! {
    fn chunk_norm(values: &[f32]) -> f64 {
        let mut sum = 0.0;
        for block in values.chunks(BLOCK) {
            sum += lane_sum(block, |v| v * v);
        }
        sum
    }
}
