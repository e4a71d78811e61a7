//! AdamW with the pull of L2-SP, in place, memory read and written once a step.
//!
//! With data gradient d, anchor w0, step t and rate r:
//!
//! ```text
//! g = scale d + l2sp (w - w0)
//! m <- beta1 m + (1 - beta1) g          v <- beta2 v + (1 - beta2) g^2
//! w <- w - r weight_decay w - r m^ / (sqrt(v^) + eps)
//! m^ = m / (1 - beta1^t)                v^ = v / (1 - beta2^t)
//! ```
//!
//! as `torch.optim.AdamW` on the gradient g; l2sp is the factor beta of `beta / 2 |w - w0|^2` (Li et al. 2018).

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::ema::check_momentum;
use crate::in_place::{same_storage, with_slice_mut};
use crate::storage::{CHUNK, check, with_slice};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{Coefficients, squared_norm, update};

const NAME: &str = "adamw";

/// What one step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Learning rate of this step.
    pub rate: f64,
    /// Decoupled weight decay; a step shrinks a weight by `rate * weight_decay` of itself.
    pub weight_decay: f64,
    /// Strength beta of the pull towards the anchor; 0 for none.
    pub l2sp: f64,
    /// Factor on the data gradient, to clip its norm; 1 leaves it.
    pub scale: f64,
}

/// The optimiser's decay rates and what it remembers of every weight, by name.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Keeps the denominator from 0.
    pub eps: f64,
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

/// Running averages of a weight's gradient and of its square.
#[derive(Clone, Debug)]
struct Moments {
    shape: Vec<usize>,
    first: Vec<f32>,
    second: Vec<f32>,
}

/// Name of a weight, its first and second moment, of the weight's shape.
pub type NamedMoments = (String, Tensor, Tensor);

/// Name, weight, gradient of the data loss, anchor.
pub type Item<'a> = (&'a str, &'a Var, &'a Tensor, &'a Tensor);

impl Default for AdamW {
    /// The rates of PyTorch: 0.9, 0.999, 1e-8.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            steps: 0,
            moments: BTreeMap::new(),
        }
    }
}

impl AdamW {
    /// Moves every weight in place; tensors that share its storage see it. All tensors are f32, on the CPU. A weight
    /// left out of a step keeps its moments; the count of steps is one for all. Returns the sum over all weights of
    /// `|w - w0|^2` before the step (0 without a pull). Nothing has moved if an error is returned.
    ///
    /// # Errors
    /// If shapes or types differ from the weight's or from earlier steps, a name comes twice, or tensors of one item
    /// share their storage.
    pub fn step(&mut self, items: &[Item], settings: &Settings) -> Result<f64> {
        self.advance(items, None, settings)
    }

    /// [`AdamW::step`], and in the same pass `teacher <- momentum teacher + (1 - momentum) weight`, with one teacher
    /// an item.
    ///
    /// # Errors
    /// As [`AdamW::step`], or if the teachers do not fit the weights or `momentum` lies outside `[0, 1]`.
    pub fn step_with_ema(
        &mut self,
        items: &[Item],
        teachers: &[&Var],
        momentum: f64,
        settings: &Settings,
    ) -> Result<f64> {
        check_momentum(NAME, momentum)?;
        if teachers.len() != items.len() {
            bail!(
                "{NAME}: expected as many teachers as weights ({}), got {}",
                items.len(),
                teachers.len()
            )
        }
        self.advance(items, Some((teachers, momentum)), settings)
    }

    /// Steps taken, and of each weight its name, first and second moment, in name order.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn state(&self) -> Result<(u64, Vec<NamedMoments>)> {
        let moments = self.moments.iter().map(|(name, moments)| {
            let tensor =
                |values: &[f32]| Tensor::from_slice(values, &moments.shape[..], &Device::Cpu);
            Ok((
                name.clone(),
                tensor(&moments.first)?,
                tensor(&moments.second)?,
            ))
        });
        Ok((self.steps, moments.collect::<Result<_>>()?))
    }

    /// Goes on from what [`AdamW::state`] returned; the steps that follow are bit for bit those that would have.
    ///
    /// # Errors
    /// If a pair of moments differs in shape, or is not f32.
    pub fn restore(&mut self, steps: u64, moments: Vec<NamedMoments>) -> Result<()> {
        let mut restored = BTreeMap::new();
        for (name, first, second) in moments {
            check(
                NAME,
                &format!("{name}, first moment"),
                &first,
                first.dims(),
                DType::F32,
            )?;
            check(
                NAME,
                &format!("{name}, second moment"),
                &second,
                first.dims(),
                DType::F32,
            )?;
            let moments = Moments {
                shape: first.dims().to_vec(),
                first: first.flatten_all()?.to_vec1()?,
                second: second.flatten_all()?.to_vec1()?,
            };
            restored.insert(name, moments);
        }
        self.steps = steps;
        self.moments = restored;
        Ok(())
    }

    fn advance(
        &mut self,
        items: &[Item],
        teachers: Option<(&[&Var], f64)>,
        settings: &Settings,
    ) -> Result<f64> {
        let mut gradients = Vec::with_capacity(items.len());
        let mut names = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let teacher = teachers.and_then(|(teachers, _)| teachers.get(index).copied());
            self.check_item(item, teacher)?;
            if !names.insert(item.0) {
                bail!("{NAME}: expected every weight once, got {} twice", item.0)
            }
            gradients.push((item.2.contiguous()?, item.3.contiguous()?));
        }
        self.steps += 1;
        let coefficients = Coefficients::new(self, self.steps, settings);
        let mut distance = 0.0;
        for (index, ((name, weight, ..), (gradient, anchor))) in
            items.iter().zip(&gradients).enumerate()
        {
            let moments = self
                .moments
                .entry((*name).to_owned())
                .or_insert_with(|| Moments {
                    shape: weight.dims().to_vec(),
                    first: vec![0.0; weight.elem_count()],
                    second: vec![0.0; weight.elem_count()],
                });
            let teacher = teachers.and_then(|(t, momentum)| Some((*t.get(index)?, momentum)));
            distance += move_weight(weight, gradient, anchor, moments, teacher, &coefficients)?;
        }
        Ok(distance)
    }

    fn check_item(
        &self,
        &(name, weight, gradient, anchor): &Item,
        teacher: Option<&Var>,
    ) -> Result<()> {
        let shape = weight.dims();
        if !weight.is_contiguous() {
            bail!(
                "{NAME}: {name} must be contiguous, got strides {:?}",
                weight.stride()
            )
        }
        let mut others: Vec<(&str, &Tensor)> = vec![("gradient", gradient), ("anchor", anchor)];
        others.extend(teacher.map(|t| ("teacher", t.as_tensor())));
        check(NAME, name, weight, shape, DType::F32)?;
        for (role, tensor) in others {
            check(
                NAME,
                &format!("the {role} of {name}"),
                tensor,
                shape,
                DType::F32,
            )?;
            if same_storage(weight, tensor) {
                bail!(
                    "{NAME}: expected the {role} of {name} to be a tensor of its own, got the weight's storage"
                )
            }
            if role != "teacher" && teacher.is_some_and(|t| same_storage(t, tensor)) {
                bail!(
                    "{NAME}: expected the {role} of {name} to be a tensor of its own, got the teacher's storage"
                )
            }
        }
        match self.moments.get(name) {
            Some(moments) if moments.shape != shape => {
                bail!(
                    "{NAME}: expected {name} of shape {:?} as before, got {shape:?}",
                    moments.shape
                )
            }
            _ => Ok(()),
        }
    }
}

/// One weight's step, in parallel over its chunks.
fn move_weight(
    weight: &Var,
    gradient: &Tensor,
    anchor: &Tensor,
    moments: &mut Moments,
    teacher: Option<(&Var, f64)>,
    coefficients: &Coefficients,
) -> Result<f64> {
    let mut run = |weight: &mut [f32], teacher: Option<(&mut [f32], f64)>| {
        with_slice::<f32, _>(NAME, "the gradient", gradient, |gradient| {
            with_slice::<f32, _>(NAME, "the anchor", anchor, |anchor| {
                let inputs = weight
                    .par_chunks_mut(CHUNK)
                    .zip(gradient.par_chunks(CHUNK))
                    .zip(anchor.par_chunks(CHUNK))
                    .zip(moments.first.par_chunks_mut(CHUNK))
                    .zip(moments.second.par_chunks_mut(CHUNK));
                let distances: Vec<f64> = match teacher {
                    None => inputs
                        .map(|((((w, g), a), m), v)| update(w, g, a, m, v, None, coefficients))
                        .collect(),
                    Some((teacher, momentum)) => inputs
                        .zip(teacher.par_chunks_mut(CHUNK))
                        .map(|(((((w, g), a), m), v), t)| {
                            update(w, g, a, m, v, Some((t, momentum)), coefficients)
                        })
                        .collect(),
                };
                Ok(distances.iter().sum())
            })
        })
    };
    with_slice_mut::<f32, _>(NAME, "the weight", weight, |weight| match teacher {
        None => run(weight, None),
        Some((teacher, momentum)) => with_slice_mut::<f32, _>(NAME, "the teacher", teacher, |t| {
            run(weight, Some((t, momentum)))
        }),
    })
}

/// The norm of all gradients together, `sqrt(sum g^2)`, summed in f64; f32 tensors on the CPU.
///
/// # Errors
/// If a gradient is of another type or device.
pub fn gradient_norm(gradients: &[&Tensor]) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients {
        sum += with_slice(NAME, "a gradient", &gradient.contiguous()?, |g| {
            Ok(squared_norm(g))
        })?;
    }
    Ok(sum.sqrt())
}
