//! AdamW or SGD behind one step, with a state that can be put back.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use selfadapt_kernels::adamw;

use super::config::{Optimiser, TrainConfig};
use super::sgd;
use crate::error::Result;
use crate::params::ParamSet;

/// What moves the weights, with its memory.
#[derive(Debug)]
pub(super) enum Moving {
    /// AdamW wants tensors to pull towards, with whatever strength; these are the first weights, and the strength is 0.
    AdamW(Box<adamw::AdamW>, ParamSet),
    Sgd(sgd::Sgd),
}

impl Moving {
    pub fn new(of: Optimiser, params: &ParamSet) -> Result<Self> {
        Ok(match of {
            Optimiser::AdamW => Self::AdamW(Box::default(), params.fork()?),
            Optimiser::Sgd => Self::Sgd(sgd::Sgd::default()),
        })
    }

    /// Moves the weights that have a gradient.
    pub fn step(
        &mut self,
        params: &ParamSet,
        gradients: &GradStore,
        rate: f64,
        config: &TrainConfig,
    ) -> Result<()> {
        let moving: Vec<(&str, &Var, &Tensor)> = params
            .trainable()
            .filter_map(|(name, weight)| Some((name, weight, gradients.get(weight)?)))
            .collect();
        match self {
            Self::AdamW(adamw, anchor) => {
                let items: Vec<adamw::Item> = moving
                    .iter()
                    .filter_map(|(name, weight, gradient)| {
                        let anchor = anchor.get(name)?.as_tensor();
                        Some((*name, *weight, *gradient, anchor))
                    })
                    .collect();
                let settings = adamw::Settings {
                    rate,
                    weight_decay: config.weight_decay,
                    l2sp: 0.,
                    scale: 1.,
                };
                adamw.step(&items, &settings)?;
            }
            Self::Sgd(sgd) => {
                let settings = sgd::Settings {
                    rate,
                    weight_decay: config.weight_decay,
                    momentum: config.momentum,
                };
                sgd.step(&moving, &settings)?;
            }
        }
        Ok(())
    }

    /// All that it remembers, by name, and how many steps it took.
    pub fn state(&self) -> Result<(BTreeMap<String, Tensor>, u64)> {
        let mut tensors = BTreeMap::new();
        let steps = match self {
            Self::AdamW(adamw, _) => {
                let (steps, moments) = adamw.state()?;
                for (name, first, second) in moments {
                    tensors.insert(format!("first/{name}"), first);
                    tensors.insert(format!("second/{name}"), second);
                }
                steps
            }
            Self::Sgd(sgd) => {
                for (name, direction) in &sgd.directions {
                    tensors.insert(format!("first/{name}"), direction.clone());
                }
                0
            }
        };
        Ok((tensors, steps))
    }

    /// Goes on from what [`Moving::state`] returned.
    pub fn restore(&mut self, tensors: &BTreeMap<String, Tensor>, steps: u64) -> Result<()> {
        let first = tensors
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("first/")?, tensor.clone())));
        match self {
            Self::AdamW(adamw, _) => {
                let moments = first
                    .filter_map(|(name, first)| {
                        let second = tensors.get(&format!("second/{name}"))?.clone();
                        Some((name.to_owned(), first, second))
                    })
                    .collect();
                adamw.restore(steps, moments)?;
            }
            Self::Sgd(sgd) => {
                sgd.directions = first
                    .map(|(name, first)| (name.to_owned(), first))
                    .collect();
            }
        }
        Ok(())
    }
}
