//! The objective: masked cross-entropy plus lambda times masked squared error, and the pull of L2-SP.

use candle_core::Tensor;
use selfadapt_kernels::masked_loss::{masked_bce_with_logits, masked_cross_entropy, masked_mse};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::head::Head;
use crate::maps::{Masks, Prediction, PseudoLabel};

/// How the parts of the loss are weighed (paper, equation 1; values are ours, the text lost them).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Objective {
    /// Weight of the regression part against the classification part.
    pub lambda: f64,
    /// Strength of L2-SP.
    pub l2sp: L2sp,
}

impl Default for Objective {
    fn default() -> Self {
        // Cellpose's own balance: 0.5 * MSE of the flows times 5, plus 1 * cross-entropy.
        Self {
            lambda: 0.5,
            l2sp: L2sp::Moderate,
        }
    }
}

/// Strength of the pull towards the pretrained weights: `beta / 2 * |w - w0|^2` (paper, equation 2).
///
/// The paper names three levels and its text lost their numbers; these are calibrated by us.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum L2sp {
    /// No pull: the paper's ablation.
    Off,
    /// beta = 1e-4.
    Weak,
    /// beta = 1e-3.
    Moderate,
    /// beta = 1e-2.
    Strong,
    /// A number of one's own.
    Beta(f64),
}

impl L2sp {
    /// The factor beta.
    pub fn beta(self) -> f64 {
        match self {
            Self::Off => 0.,
            Self::Weak => 1e-4,
            Self::Moderate => 1e-3,
            Self::Strong => 1e-2,
            Self::Beta(beta) => beta,
        }
    }
}

/// The parts of a step's loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossParts {
    /// Mean cross-entropy over admitted pixels, summed over classification heads.
    pub classification: f64,
    /// Mean squared error over admitted scalars, summed over regression heads; lambda not applied.
    pub regression: f64,
}

impl Objective {
    /// The data part of the loss, a differentiable scalar, and its parts.
    ///
    /// # Errors
    /// If the maps are not those of `heads`.
    pub fn consistency(
        &self,
        heads: &[Head],
        student: &Prediction,
        target: &PseudoLabel,
        masks: &Masks,
    ) -> Result<(Tensor, LossParts)> {
        let mut parts = LossParts::default();
        let mut total: Option<Tensor> = None;
        for (((head, output), mean), mask) in heads
            .iter()
            .zip(&student.heads)
            .zip(&target.mean)
            .zip(&masks.0)
        {
            let weighted = if head.is_classification() {
                let loss = if head.channels == 1 {
                    masked_bce_with_logits(output, mean, mask)?
                } else {
                    masked_cross_entropy(output, mean, mask)?
                };
                parts.classification += f64::from(loss.to_scalar::<f32>()?);
                loss
            } else {
                let loss = masked_mse(output, mean, mask)?;
                parts.regression += f64::from(loss.to_scalar::<f32>()?);
                (loss * self.lambda)?
            };
            total = Some(match total {
                Some(sum) => (sum + weighted)?,
                None => weighted,
            });
        }
        let total =
            total.ok_or_else(|| Error::Setting("the model has no head to learn from".into()))?;
        Ok((total, parts))
    }
}
