//! One step of AdamW on a GPU: all weights of a network laid one after another, one launch.

use std::sync::Arc;

use candle_core::Result;

use super::{Coefficients, NAME};
use crate::cuda::{Array, Launch, Machine, PARTS, Program, add_up, count};
use crate::ema::check_momentum;

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "adamw.cu",
    source: include_str!("adamw.cu"),
    kernels: &["adamw"],
};

/// Running averages of each weight's gradient and of its square.
#[derive(Debug)]
pub struct Moments {
    /// Of the gradient.
    pub first: Array<f32>,
    /// Of its square.
    pub second: Array<f32>,
}

impl Moments {
    /// Those before the first step: zeros.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(machine: &Arc<dyn Machine>, weights: usize) -> Result<Self> {
        Ok(Self {
            first: Array::zeros(machine, weights)?,
            second: Array::zeros(machine, weights)?,
        })
    }
}

/// Moves `weight` and its moments, and `teacher` by its momentum if there is one; returns `|weight - anchor|^2` before
/// the step, 0 without a pull. As [`super::update`] to the bit, but for the order of that sum.
///
/// # Errors
/// If lengths differ, `momentum` lies outside `[0, 1]`, or the device fails.
pub fn update(
    weight: &mut Array<f32>,
    gradient: &Array<f32>,
    anchor: &Array<f32>,
    moments: &mut Moments,
    teacher: Option<(&mut Array<f32>, f64)>,
    c: &Coefficients,
) -> Result<f64> {
    let len = weight.len();
    gradient.expect(NAME, "the gradient", len)?;
    anchor.expect(NAME, "the anchor", len)?;
    moments.first.expect(NAME, "the first moment", len)?;
    moments.second.expect(NAME, "the second moment", len)?;
    let (teacher, momentum) = match teacher {
        Some((teacher, momentum)) => (Some(teacher), momentum),
        None => (None, 0.0),
    };
    check_momentum(NAME, momentum)?;
    if let Some(teacher) = &teacher {
        teacher.expect(NAME, "the teacher", len)?;
    }
    let machine = weight.machine().clone();
    let mut parts = Array::room(&machine, PARTS as usize)?;
    let launch = Launch::new(&machine, &PROGRAM, "adamw")
        .out(weight)
        .array(gradient)
        .array(anchor)
        .out(&mut moments.first)
        .out(&mut moments.second)
        .maybe(teacher.as_deref())
        .u32(count(NAME, len)?);
    let launch = [
        c.scale,
        c.pull,
        c.keep,
        c.first_share,
        c.second_stays,
        c.second_share,
        c.step,
        c.inverse_root,
        c.eps,
        momentum as f32,
        (1.0 - momentum) as f32,
    ]
    .into_iter()
    .fold(launch, Launch::f32)
    .out(&mut parts);
    // SAFETY: the arguments are the kernel's; all arrays but the parts, one a block, have `len` numbers; what it writes
    // is borrowed mutably.
    unsafe { launch.run(PARTS) }?;
    add_up(&parts)
}
