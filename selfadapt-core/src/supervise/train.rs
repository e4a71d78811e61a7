//! Training from labels: epochs of steps on turned, scaled and cut images.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Supervision;
use super::config::TrainConfig;
use super::examples::Example;
use super::optimiser::Moving;
use super::warp::Warp;
use crate::error::{Error, Result};
use crate::model::{Mode, ModelConfig};
use crate::network::Network;
use crate::objective::LossParts;
use crate::params::{Lend, ParamSet};

/// What one epoch did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// Crops that it learned from.
    pub crops: usize,
    /// Mean loss over them, each before its own step.
    pub loss: f64,
    /// Its parts, as the model weighs them.
    pub parts: LossParts,
    /// Learning rate.
    pub rate: f64,
    /// Wall time.
    pub seconds: f64,
}

/// The state between two epochs. Restored into a loop of the same model, settings and examples, the epochs that
/// follow are bit for bit those that would have followed.
#[derive(Clone, Debug)]
pub struct TrainState {
    /// `weights/NAME`, and what the optimiser remembers.
    pub tensors: BTreeMap<String, Tensor>,
    /// Epochs that are done.
    pub epoch: usize,
    /// Steps that AdamW counts.
    pub optimiser_steps: u64,
}

/// A network that learns from labels, and everything that moves between epochs.
pub struct TrainLoop {
    config: TrainConfig,
    supervision: Box<dyn Supervision>,
    network: Network,
    moving: Moving,
    epoch: usize,
}

impl TrainLoop {
    /// A loop before its first epoch, on a copy of `weights`.
    ///
    /// # Errors
    /// If a setting makes no sense, the weights do not fit, or the model cannot be trained from labels.
    pub fn new(model: &dyn ModelConfig, weights: &ParamSet, config: TrainConfig) -> Result<Self> {
        config.check(model)?;
        let network = Network::new(model, weights.fork()?, Lend::Tracked)?;
        Ok(Self {
            supervision: model.supervision()?,
            moving: Moving::new(config.optimiser, &network.params)?,
            network,
            config,
            epoch: 0,
        })
    }

    /// The weights as they stand.
    pub fn params(&self) -> &ParamSet {
        &self.network.params
    }

    /// Epochs that are done.
    pub fn epochs_done(&self) -> usize {
        self.epoch
    }

    /// One epoch: every image once, or as many drawn ones as the settings say, in steps of a batch.
    ///
    /// Each epoch draws from a generator of its own, so that it does not depend on those before.
    ///
    /// # Errors
    /// If there is no example, one does not suit the model, or the loss is no longer a number.
    pub fn epoch(&mut self, examples: &[Example]) -> Result<EpochReport> {
        if examples.is_empty() {
            return Err(Error::Labels(
                "there is no labelled image to learn from".into(),
            ));
        }
        let started = Instant::now();
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(1 + self.epoch as u64);
        let mut order: Vec<usize> = (0..examples.len()).collect();
        match self.config.crops_per_epoch {
            0 => order.shuffle(&mut rng),
            crops => {
                order = (0..crops)
                    .map(|_| rng.random_range(0..examples.len()))
                    .collect();
            }
        }
        let rate = self.config.rate(self.epoch);
        let (mut loss, mut parts) = (0., LossParts::default());
        for chosen in order.chunks(self.config.batch) {
            let batch: Vec<&Example> = chosen.iter().map(|&index| &examples[index]).collect();
            let (images, targets) = self.crops(&batch, &mut rng)?;
            let (of_step, parts_of_step) = self.step(&images, &targets, rate)?;
            let share = chosen.len() as f64 / order.len() as f64;
            loss += share * of_step;
            parts.classification += share * parts_of_step.classification;
            parts.regression += share * parts_of_step.regression;
        }
        self.epoch += 1;
        Ok(EpochReport {
            epoch: self.epoch,
            crops: order.len(),
            loss,
            parts,
            rate,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// One step on crops `[B, C, side, side]` with targets `[B, T, H', W']`: the loss before it, and its parts.
    ///
    /// # Errors
    /// If they do not fit the model, or the loss is not a number; nothing has moved then.
    pub fn step(
        &mut self,
        images: &Tensor,
        targets: &Tensor,
        rate: f64,
    ) -> Result<(f64, LossParts)> {
        let (mut loss, mut parts) = (f64::NAN, LossParts::default());
        let supervision = &self.supervision;
        let gradients = self
            .network
            .model
            .backward(images, Mode::Train, &mut |prediction| {
                let (value, of) = supervision.loss(prediction, targets)?;
                (loss, parts) = (f64::from(value.to_scalar::<f32>()?), of);
                Ok(value)
            })?;
        if !loss.is_finite() {
            return Err(Error::NotFinite(format!(
                "the loss in epoch {} is {loss}; try a lower learning rate than {}",
                self.epoch + 1,
                self.config.learning_rate
            )));
        }
        self.moving
            .step(&self.network.params, &gradients, rate, &self.config)?;
        Ok((loss, parts))
    }

    /// One crop of every example: images and targets.
    fn crops(&self, examples: &[&Example], rng: &mut ChaCha8Rng) -> Result<(Tensor, Tensor)> {
        let (side, range) = (self.config.crop, self.config.scale_range);
        // Drawn one after the other, then cut on any number of threads.
        let warps: Vec<Warp> = examples
            .iter()
            .map(|example| Warp::draw(example.size(), side, example.scale(), range, rng))
            .collect();
        let cut: Vec<_> = examples
            .par_iter()
            .zip(&warps)
            .map(|(example, warp)| example.cut(self.supervision.as_ref(), warp))
            .collect::<Result<_>>()?;
        let (mut pixels, mut targets, mut shape) = (Vec::new(), Vec::new(), (0, 0, 0));
        for (image, target) in cut {
            pixels.extend(image);
            shape = target.dim();
            targets.extend(target);
        }
        let batch = examples.len();
        let channels = pixels.len() / (batch * side * side).max(1);
        let images = Tensor::from_vec(pixels, (batch, channels, side, side), &Device::Cpu)?;
        let shape = (batch, shape.0, shape.1, shape.2);
        Ok((images, Tensor::from_vec(targets, shape, &Device::Cpu)?))
    }

    /// A copy of the state.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn state(&self) -> Result<TrainState> {
        let (mut tensors, optimiser_steps) = self.moving.state()?;
        for (name, tensor, _) in self.network.params.tensors() {
            tensors.insert(format!("weights/{name}"), tensor.copy()?);
        }
        Ok(TrainState {
            tensors,
            epoch: self.epoch,
            optimiser_steps,
        })
    }

    /// Goes on from a state.
    ///
    /// # Errors
    /// If the state is that of another model.
    pub fn restore(&mut self, state: &TrainState) -> Result<()> {
        for (name, var, _) in self.network.params.iter() {
            let saved = state.tensors.get(&format!("weights/{name}"));
            let saved = saved.filter(|s| s.shape() == var.shape() && s.dtype() == var.dtype());
            let saved = saved.ok_or_else(|| {
                Error::Weights(format!(
                    "the saved state lacks {name} of {:?}: it belongs to another model",
                    var.dims()
                ))
            })?;
            var.set(saved)?;
        }
        self.moving.restore(&state.tensors, state.optimiser_steps)?;
        self.epoch = state.epoch;
        Ok(())
    }
}
