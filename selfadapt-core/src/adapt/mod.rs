//! Adaptation: one step that reads as a page.

pub mod config;
mod descent;
mod state;

use std::collections::BTreeSet;
use std::time::Instant;

use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use selfadapt_kernels::adamw::AdamW;
use serde::{Deserialize, Serialize};

use crate::crops::CropSampler;
use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::gate::ConfidenceGate;
use crate::maps::{Masks, PseudoLabel};
use crate::model::{Mode, ModelConfig};
use crate::network::Network;
use crate::objective::LossParts;
use crate::outlines::Fitting;
use crate::params::{Lend, ParamSet};
use crate::source::ImageSource;
use crate::teacher::Teacher;

pub use state::{LoopState, StateNumbers};

use config::{AdaptConfig, BatchNorm};

/// What one step did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The step, counted from 1.
    pub step: usize,
    /// Data loss: classification + lambda * regression.
    pub loss: f64,
    /// Its parts.
    pub parts: LossParts,
    /// L2-SP: beta / 2 times the squared distance from the pretrained weights, before the step.
    pub pull: f64,
    /// Share of scalars that the gate admitted, one a head.
    pub kept: Vec<f64>,
    /// Norm of the data loss's gradient.
    pub gradient_norm: f64,
    /// Learning rate.
    pub rate: f64,
    /// Wall time.
    pub seconds: f64,
}

/// Student, teacher and everything that moves between steps.
#[derive(Debug)]
pub struct AdaptLoop {
    config: AdaptConfig,
    /// The network that learns.
    pub student: Network,
    /// The same weights without a graph: to look at the student, or deliver it.
    pub student_still: Network,
    /// The network that labels, and that is delivered.
    pub teacher: Teacher,
    /// The pretrained weights.
    pub anchor: ParamSet,
    /// Names of the weights that learning moves.
    moving: BTreeSet<String>,
    /// Where outlines are fitted to the images.
    fitting: Option<Fitting>,
    gate: ConfidenceGate,
    optimizer: AdamW,
    rng: ChaCha8Rng,
    step: usize,
    /// Learning rates are multiplied by it; halved after each step that had to be taken back.
    rate_factor: f64,
}

impl AdaptLoop {
    /// A loop at step 0: student and teacher are copies of `pretrained`.
    ///
    /// # Errors
    /// If a setting makes no sense or the weights do not fit the model.
    pub fn new(
        model: &dyn ModelConfig,
        pretrained: &ParamSet,
        config: &AdaptConfig,
    ) -> Result<Self> {
        config.check(model)?;
        let student = Network::new(model, pretrained.fork()?, Lend::Tracked)?;
        let teacher = Teacher::new(
            model,
            pretrained,
            Dihedral::views(config.views)?,
            config.ema,
        )?;
        if student.model.heads().is_empty() {
            return Err(Error::Setting("the model has no head to learn from".into()));
        }
        let gate = ConfidenceGate::new(config.gate, student.model.heads())?;
        let fitting = Fitting::new(config.outlines, model, student.model.as_ref())?;
        let student_still = Network::new(model, student.params.clone(), Lend::Detached)?;
        let mut moving = BTreeSet::new();
        for (name, weight) in student.params.trainable() {
            if config.moving.moves(model, name, weight.rank())? {
                moving.insert(name.to_owned());
            }
        }
        Ok(Self {
            config: *config,
            student_still,
            anchor: pretrained.fork()?,
            moving,
            fitting,
            gate,
            optimizer: AdamW::default(),
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            step: 0,
            rate_factor: 1.,
            student,
            teacher,
        })
    }

    /// The settings.
    pub fn config(&self) -> &AdaptConfig {
        &self.config
    }

    /// Steps taken.
    pub fn steps_taken(&self) -> usize {
        self.step
    }

    /// Halves every learning rate that follows.
    pub fn halve_rate(&mut self) {
        self.rate_factor *= 0.5;
    }

    /// Draws the next batch of crops with the loop's own generator.
    ///
    /// # Errors
    /// As [`CropSampler::draw`].
    pub fn draw(&mut self, sampler: &CropSampler, source: &dyn ImageSource) -> Result<Tensor> {
        sampler.draw(source, &mut self.rng, &self.anchor.device())
    }

    /// One step on a batch of crops `[B, C, H, W]` (paper, section 2).
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the loss or its gradient is not a number: nothing has moved then, and the
    /// caller may go back to an earlier state. Others if the crops do not fit the model.
    pub fn step(&mut self, images: &Tensor) -> Result<StepReport> {
        let started = Instant::now();
        let rate = self.config.schedule().rate(self.step) * self.rate_factor;

        let mut pseudo = self.teacher.label(images)?;
        self.refuse_what_is_no_number(&pseudo)?;
        if let Some(fitting) = &self.fitting {
            pseudo = fitting.fit(images, pseudo)?;
        }
        let masks = self.gate.admit(self.student.model.heads(), &pseudo)?;
        let masks = self.config.selection.choose(&pseudo, masks)?;
        let strong = self.config.perturb.apply(images, &mut self.rng)?;
        let (objective, heads) = (self.config.objective, self.student.model.heads());
        let (mut loss, mut parts) = (f64::NAN, LossParts::default());
        let statistics = self.statistics()?;
        let gradients = self
            .student
            .model
            .backward(&strong, self.mode(), &mut |output| {
                let (value, of) = objective.consistency(heads, output, &pseudo, &masks)?;
                (loss, parts) = (f64::from(value.to_scalar::<f32>()?), of);
                Ok(value)
            })?;
        let moved = self.descend(&gradients, loss, rate)?;
        self.count_clean(images, statistics)?;
        self.teacher.follow(&self.student.params)?;

        self.step += 1;
        Ok(StepReport {
            step: self.step,
            loss,
            parts,
            pull: moved.pull,
            kept: kept(&masks)?,
            gradient_norm: moved.gradient_norm,
            rate,
            seconds: started.elapsed().as_secs_f64(),
        })
    }
}

impl AdaptLoop {
    /// A teacher that has become NaN is a run to be taken back, not a fault of a kernel that meets its labels.
    fn refuse_what_is_no_number(&self, label: &PseudoLabel) -> Result<()> {
        for mean in &label.mean {
            let sum = mean.sum_all()?.to_scalar::<f32>()?;
            if !sum.is_finite() {
                return Err(Error::NotFinite(format!(
                    "the teacher's labels of step {} sum to {sum}",
                    self.step + 1
                )));
            }
        }
        Ok(())
    }

    fn mode(&self) -> Mode {
        match self.config.batch_norm {
            BatchNorm::Frozen | BatchNorm::Blend => Mode::Eval,
            BatchNorm::Train | BatchNorm::Clean => Mode::Train,
        }
    }

    /// A copy of the running statistics, where the step must put them back.
    fn statistics(&self) -> Result<Vec<Tensor>> {
        if self.config.batch_norm != BatchNorm::Clean {
            return Ok(Vec::new());
        }
        let buffers = self.student.params.buffers();
        Ok(buffers
            .map(|(_, var)| var.as_detached_tensor().copy())
            .collect::<candle_core::Result<_>>()?)
    }

    /// Lets the running statistics follow the crops as they are instead of the degraded ones.
    fn count_clean(&self, images: &Tensor, before: Vec<Tensor>) -> Result<()> {
        if matches!(self.config.batch_norm, BatchNorm::Frozen | BatchNorm::Train) {
            return Ok(());
        }
        for ((_, var), tensor) in self.student.params.buffers().zip(&before) {
            var.set(tensor)?;
        }
        self.student_still.model.forward(images, Mode::Train)?;
        Ok(())
    }
}

/// Share of admitted scalars, one number a head.
fn kept(masks: &Masks) -> Result<Vec<f64>> {
    masks
        .0
        .iter()
        .map(|mask| Ok(f64::from(mask.mean_all()?.to_scalar::<f32>()?)))
        .collect()
}
