//! Settings of an adaptation's steps.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gate::GateConfig;
use crate::model::ModelConfig;
use crate::objective::Objective;
use crate::outlines::Outlines;
use crate::params::Stage;
use crate::perturb::Perturb;
use crate::schedule::Schedule;
use crate::selection::Selection;

/// Which statistics the student's batch norm uses while it learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNorm {
    /// Those of the pretrained model, kept.
    Frozen,
    /// Those of the batch; running estimates follow the degraded crops that it learns from.
    Train,
    /// Those of the batch while it learns; running estimates follow the crops as they are, which is what the
    /// delivered model will see.
    Clean,
    /// The running estimates themselves, which follow the crops as they are: a blend of the pretrained statistics
    /// and the new images' that leaves the former by the norm's momentum at each step.
    Blend,
}

/// Which weights learning moves; running statistics are the matter of [`BatchNorm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moving {
    /// All.
    All,
    /// Those that scale and shift channels: weights of one axis (norms' affines, biases). Shapes of filters stay.
    Channels,
    /// Those from the image to the deepest features ([`ModelConfig::stage`]).
    Encoder,
    /// Those from there to the maps.
    Decoder,
}

impl Moving {
    /// Whether a weight of `rank` axes by this name moves.
    ///
    /// # Errors
    /// If the model does not say where its weights work and that is what decides.
    pub fn moves(self, model: &dyn ModelConfig, name: &str, rank: usize) -> Result<bool> {
        let wanted = match self {
            Self::All => return Ok(true),
            Self::Channels => return Ok(rank == 1),
            Self::Encoder => Stage::Encoder,
            Self::Decoder => Stage::Decoder,
        };
        let stage = model.stage(name).ok_or_else(|| {
            Error::Setting(format!(
                "adapt.moving: expected a model that tells its encoder from its decoder, found one that does \
                 not for {name}; \"all\" and \"channels\" work with every model"
            ))
        })?;
        Ok(stage == wanted)
    }
}

/// Settings of a run's steps; everything that a step's result depends on beside weights and crops.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptConfig {
    /// Seed of crops, augmentation and validation.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: usize,
    /// Crops in a step.
    pub batch: usize,
    /// Side of a crop in pixels of the working scale. The command takes the model's own, or as much as the largest image fills where
    /// that is less.
    pub crop: usize,
    /// Teacher views: 1 (the ablation without averaging), 4, 6 or 8.
    pub views: usize,
    /// Share of the teacher that stays at each step.
    pub ema: f64,
    /// Highest learning rate of the student.
    pub learning_rate: f64,
    /// Share of the steps over which the learning rate rises.
    pub warm_up: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Largest norm of a step's gradient; longer ones are scaled down to it. 0 leaves all as they are.
    pub clip_norm: f64,
    /// The student's batch norm.
    pub batch_norm: BatchNorm,
    /// Which weights move.
    pub moving: Moving,
    /// Weights of the loss.
    pub objective: Objective,
    /// The confidence gate.
    pub gate: GateConfig,
    /// Which crops teach.
    pub selection: Selection,
    /// Strong augmentation.
    pub perturb: Perturb,
    /// Whether outlines lie on the images' edges.
    pub outlines: Outlines,
}

impl Default for AdaptConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 30,
            batch: 4,
            crop: 224,
            views: 4,
            ema: 0.95,
            learning_rate: 3e-4,
            warm_up: 0.1,
            weight_decay: 1e-3,
            clip_norm: 0.,
            batch_norm: BatchNorm::Train,
            moving: Moving::All,
            objective: Objective::default(),
            gate: GateConfig::default(),
            selection: Selection::default(),
            perturb: Perturb::default(),
            outlines: Outlines::default(),
        }
    }
}

impl AdaptConfig {
    /// The schedule of the learning rate.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            peak: self.learning_rate,
            warm_up: (self.steps as f64 * self.warm_up).round() as usize,
            steps: self.steps,
        }
    }

    /// Checks every range that no other part checks.
    ///
    /// # Errors
    /// If a number makes no sense, naming it.
    pub fn check(&self, model: &dyn ModelConfig) -> Result<()> {
        let divisor = model.input().divisor.max(1);
        let wrong = |what: &str, expected: &str, found: f64| {
            Err(Error::Setting(format!(
                "{what}: expected {expected}, found {found}"
            )))
        };
        if self.steps == 0 {
            return wrong("steps", "at least 1", 0.);
        }
        if self.batch == 0 {
            return wrong("batch", "at least 1", 0.);
        }
        if self.crop == 0 || !self.crop.is_multiple_of(divisor) {
            return wrong(
                "crop",
                &format!("a multiple of {divisor}"),
                self.crop as f64,
            );
        }
        if !(self.learning_rate > 0. && self.learning_rate.is_finite()) {
            return wrong("learning_rate", "a positive number", self.learning_rate);
        }
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("clip_norm", self.clip_norm),
            ("objective.lambda", self.objective.lambda),
            ("objective.l2sp", self.objective.l2sp.beta()),
        ] {
            if !(value >= 0. && value.is_finite()) {
                return wrong(name, "0 or a positive number", value);
            }
        }
        if !(0. ..=1.).contains(&self.warm_up) {
            return wrong("warm_up", "0 to 1", self.warm_up);
        }
        self.selection.check()?;
        self.outlines.check()?;
        self.perturb.check()
    }
}
