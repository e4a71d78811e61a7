//! The change of mean confidence: a candidate of the paper's Figure 2a, rejected there because it rises
//! without end, also while the segmentation gets worse.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

/// The change of the winning class's mean probability, in `[-0.5, 0.5]`; positive for a surer model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeanConfidence {
    /// The change beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "mean-confidence")]
impl StopCriterion for MeanConfidence {
    fn name(&self) -> &'static str {
        "mean-confidence"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        mean(&now.confidence) - mean(&initial.confidence)
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

/// The mean over images; NaN if there is none.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_change_of_the_mean_over_images() {
        let reading = |confidence: &[f64]| Reading {
            confidence: confidence.to_vec(),
            ..Reading::default()
        };
        let criterion = MeanConfidence::default();
        let initial = reading(&[0.5, 0.75]);
        assert_eq!(criterion.drift(&initial, &reading(&[0.75, 1.0])), 0.25);
        assert_eq!(criterion.drift(&initial, &initial), 0.0);
        assert_eq!(criterion.threshold(), None);
    }
}
