//! The change of mean confidence: a candidate of the paper's Figure 2a, rejected there because it rises
//! without end, also while the segmentation gets worse.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::mean_change::mean_change;

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
        mean_change(&initial.confidence, &now.confidence)
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_confidence() {
        let reading = |confidence: f64| Reading {
            confidence: vec![confidence],
            ..Reading::default()
        };
        let criterion = MeanConfidence::default();
        assert_eq!(criterion.drift(&reading(0.5), &reading(0.75)), 0.25);
        assert_eq!(criterion.threshold(), None);
    }
}
