//! The optimiser's part of a step: AdamW, with the pull of L2-SP added to each gradient.

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use selfadapt_kernels::adamw::{Settings, gradient_norm};

use super::AdaptLoop;
use crate::error::{Error, Result};

/// What a descent found on its way.
pub(super) struct Descent {
    /// beta / 2 times the squared distance from the pretrained weights, before the step.
    pub pull: f64,
    /// Norm of the data loss's gradient over all weights.
    pub gradient_norm: f64,
}

impl AdaptLoop {
    /// Moves the student's weights along `gradients`.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the loss or a gradient is not a number; nothing has moved then.
    pub(super) fn descend(
        &mut self,
        gradients: &GradStore,
        loss: f64,
        rate: f64,
    ) -> Result<Descent> {
        if !loss.is_finite() {
            return Err(Error::NotFinite(format!(
                "the loss of step {} is {loss}",
                self.step + 1
            )));
        }
        let mut moving: Vec<(&str, &Var, &Tensor, &Tensor)> = Vec::new();
        for (name, weight) in self.student.params.trainable() {
            let Some(anchor) = self.anchor.get(name) else {
                return Err(Error::Weights(format!(
                    "{name}: missing from the pretrained weights"
                )));
            };
            if !self.moving.contains(name) {
                continue;
            }
            // A weight that took no part in this step's loss does not move.
            if let Some(gradient) = gradients.get(weight) {
                moving.push((name, weight, gradient, anchor.as_tensor()));
            }
        }
        let all: Vec<&Tensor> = moving.iter().map(|(_, _, gradient, _)| *gradient).collect();
        let gradient_norm = gradient_norm(&all)?;
        if !gradient_norm.is_finite() {
            return Err(Error::NotFinite(format!(
                "the gradient of step {} is {gradient_norm}",
                self.step + 1
            )));
        }
        let clip = self.config.clip_norm;
        let scale = if clip > 0. && gradient_norm > clip {
            clip / gradient_norm
        } else {
            1.
        };
        let l2sp = self.config.objective.l2sp.beta();
        let settings = Settings {
            rate,
            weight_decay: self.config.weight_decay,
            l2sp,
            scale,
        };
        let distance = self.optimizer.step(&moving, &settings)?;
        Ok(Descent {
            pull: 0.5 * l2sp * distance,
            gradient_norm,
        })
    }
}
