//! Everything that moves between two steps, to go back to or to go on from.

use std::collections::BTreeMap;

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::AdaptLoop;
use crate::error::{Error, Result};
use crate::gate::ConfidenceGate;
use crate::params::ParamSet;

/// The state between two steps. Restored into a loop of the same model and settings, the steps that follow are
/// bit for bit those that would have followed.
#[derive(Clone, Debug)]
pub struct LoopState {
    /// `student/NAME`, `teacher/NAME`, and AdamW's `moment1/NAME`, `moment2/NAME`.
    pub tensors: BTreeMap<String, Tensor>,
    /// All that is not a tensor.
    pub numbers: StateNumbers,
}

/// The part of a state that is not a tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateNumbers {
    step: usize,
    optimizer_steps: u64,
    rate_factor: f64,
    rng: ChaCha8Rng,
    gate: ConfidenceGate,
}

impl LoopState {
    /// Steps taken.
    pub fn step(&self) -> usize {
        self.numbers.step
    }
}

impl AdaptLoop {
    /// A copy of the state.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn state(&self) -> Result<LoopState> {
        let mut tensors = BTreeMap::new();
        for (role, params) in [
            ("student", &self.student.params),
            ("teacher", &self.teacher.network.params),
        ] {
            for (name, tensor, _) in params.tensors() {
                tensors.insert(format!("{role}/{name}"), tensor.copy()?);
            }
        }
        let (steps, moments) = self.optimizer.state()?;
        for (name, first, second) in moments {
            tensors.insert(format!("moment1/{name}"), first);
            tensors.insert(format!("moment2/{name}"), second);
        }
        Ok(LoopState {
            tensors,
            numbers: StateNumbers {
                step: self.step,
                optimizer_steps: steps,
                rate_factor: self.rate_factor,
                rng: self.rng.clone(),
                gate: self.gate.clone(),
            },
        })
    }

    /// Goes back (or on) to a state.
    ///
    /// # Errors
    /// If the state is that of another model.
    pub fn restore(&mut self, state: &LoopState) -> Result<()> {
        put(&self.student.params, "student", state)?;
        put(&self.teacher.network.params, "teacher", state)?;
        let mut moments = Vec::new();
        for (key, first) in &state.tensors {
            if let Some(name) = key.strip_prefix("moment1/") {
                let second = find(state, &format!("moment2/{name}"))?;
                moments.push((name.to_owned(), first.clone(), second.clone()));
            }
        }
        self.optimizer
            .restore(state.numbers.optimizer_steps, moments)?;
        self.step = state.numbers.step;
        self.rate_factor = state.numbers.rate_factor;
        self.rng = state.numbers.rng.clone();
        self.gate = state.numbers.gate.clone();
        Ok(())
    }
}

fn put(params: &ParamSet, role: &str, state: &LoopState) -> Result<()> {
    for (name, var, _) in params.iter() {
        let saved = find(state, &format!("{role}/{name}"))?;
        if saved.shape() != var.shape() || saved.dtype() != var.dtype() {
            return Err(Error::Weights(format!(
                "{role}/{name}: expected {:?} of {:?}, the saved state holds {:?} of {:?}",
                var.dims(),
                var.dtype(),
                saved.dims(),
                saved.dtype()
            )));
        }
        var.set(&saved.to_device(var.device())?)?;
    }
    Ok(())
}

fn find<'a>(state: &'a LoopState, key: &str) -> Result<&'a Tensor> {
    state.tensors.get(key).ok_or_else(|| {
        Error::Weights(format!(
            "the saved state lacks {key}: it belongs to another model"
        ))
    })
}
