//! Settings of training from labels, and the learning rate over its epochs.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// What moves the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimiser {
    /// AdamW with PyTorch's decay rates.
    AdamW,
    /// Stochastic gradient descent with momentum.
    Sgd,
}

/// Settings of training; everything that its result depends on beside weights, images and labels. What they are by
/// default the model says: [`super::Supervision::defaults`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of the order of images, of augmentation, and of weights that are drawn.
    pub seed: u64,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Crops in an epoch, from images drawn with replacement; 0 takes one crop of every image.
    pub crops_per_epoch: usize,
    /// Crops in a step.
    pub batch: usize,
    /// Side of a crop in pixels of the working scale.
    pub crop: usize,
    /// What moves the weights.
    pub optimiser: Optimiser,
    /// Highest learning rate.
    pub learning_rate: f64,
    /// Weight decay: decoupled for AdamW, added to the gradient for SGD.
    pub weight_decay: f64,
    /// Share of the earlier direction that stays; SGD alone uses it.
    pub momentum: f64,
    /// Crops are scaled by `1 - s / 2` to `1 + s / 2` about the scale at which their objects have the model's size.
    pub scale_range: f64,
    /// Images with fewer objects are left out.
    pub min_objects: usize,
}

impl TrainConfig {
    /// Learning rate of an epoch, counted from 0.
    ///
    /// As Cellpose 3.1.1's `train_seg`: it rises from 0 within ten epochs; the last hundred of more than 300 epochs, or
    /// the last fifty of more than 100, are ten parts of which each halves it.
    pub fn rate(&self, epoch: usize) -> f64 {
        const RISE: usize = 10;
        let fall = match self.epochs {
            301.. => 100,
            101.. => 50,
            _ => 0,
        };
        let level = self.epochs - fall;
        if epoch < RISE {
            self.learning_rate * epoch as f64 / (RISE - 1) as f64
        } else if epoch < level {
            self.learning_rate
        } else {
            let halvings = (epoch - level) / (fall / 10).max(1) + 1;
            self.learning_rate * 0.5_f64.powi(halvings as i32)
        }
    }

    /// Checks every range.
    ///
    /// # Errors
    /// If a number makes no sense, naming it.
    pub fn check(&self, model: &dyn ModelConfig) -> Result<()> {
        let divisor = model.input().divisor.max(1);
        let positive = |value: f64| value > 0. && value.is_finite();
        let zero_or_more = |value: f64| value >= 0. && value.is_finite();
        let faults = [
            (self.epochs == 0, "epochs: expected at least 1".to_owned()),
            (self.batch == 0, "batch: expected at least 1".to_owned()),
            (
                self.crop == 0 || !self.crop.is_multiple_of(divisor),
                format!(
                    "crop: expected a multiple of {divisor}, found {}",
                    self.crop
                ),
            ),
            (
                !positive(self.learning_rate),
                format!(
                    "learning_rate: expected a positive number, found {}",
                    self.learning_rate
                ),
            ),
            (
                !zero_or_more(self.weight_decay),
                format!(
                    "weight_decay: expected 0 or a positive number, found {}",
                    self.weight_decay
                ),
            ),
            (
                !(0. ..1.).contains(&self.momentum),
                format!(
                    "momentum: expected at least 0 and below 1, found {}",
                    self.momentum
                ),
            ),
            (
                !(0. ..2.).contains(&self.scale_range),
                format!(
                    "scale_range: expected at least 0 and below 2, found {}",
                    self.scale_range
                ),
            ),
        ];
        match faults.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, fault)) => Err(Error::Setting(fault)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(epochs: usize) -> Vec<f64> {
        let config = TrainConfig {
            seed: 0,
            epochs,
            crops_per_epoch: 0,
            batch: 8,
            crop: 224,
            optimiser: Optimiser::Sgd,
            learning_rate: 1.,
            weight_decay: 0.,
            momentum: 0.,
            scale_range: 0.5,
            min_objects: 5,
        };
        (0..epochs).map(|epoch| config.rate(epoch)).collect()
    }

    #[test]
    fn the_learning_rate_is_that_of_cellpose() {
        // LR of train_seg with learning_rate = 1.
        assert_eq!(rates(5), [0., 1. / 9., 2. / 9., 3. / 9., 4. / 9.]);
        assert!(rates(100)[9..].iter().all(|&rate| rate == 1.));
        let some = rates(150);
        assert_eq!(
            (some[99], some[100], some[104], some[105]),
            (1., 0.5, 0.5, 0.25)
        );
        assert_eq!(some[149], 0.5_f64.powi(10));
        let many = rates(500);
        assert_eq!(
            (many[399], many[400], many[409], many[410]),
            (1., 0.5, 0.5, 0.25)
        );
        assert_eq!(many[499], 0.5_f64.powi(10));
    }
}
