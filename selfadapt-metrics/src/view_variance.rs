//! The change of disagreement between views: a candidate of the paper's section 3.2, rejected there because
//! its peaks tell nothing about the segmentation's.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

/// The change of the mean standard deviation over views of all regression targets; positive for a model
/// that contradicts itself more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewVariance {
    /// The change beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "view-variance")]
impl StopCriterion for ViewVariance {
    fn name(&self) -> &'static str {
        "view-variance"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        mean(&now.spread) - mean(&initial.spread)
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
        let reading = |spread: &[f64]| Reading {
            spread: spread.to_vec(),
            ..Reading::default()
        };
        let criterion = ViewVariance::default();
        let initial = reading(&[0.5, 0.75]);
        assert_eq!(criterion.drift(&initial, &reading(&[0.75, 1.0])), 0.25);
        assert_eq!(criterion.drift(&initial, &initial), 0.0);
        assert_eq!(criterion.threshold(), None);
    }
}
