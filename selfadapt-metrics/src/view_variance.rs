//! The change of disagreement between views: a candidate of the paper's section 3.2, rejected there because
//! its peaks tell nothing about the segmentation's.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::mean_change::mean_change;

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
        mean_change(&initial.spread, &now.spread)
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_spread() {
        let reading = |spread: f64| Reading {
            spread: vec![spread],
            ..Reading::default()
        };
        let criterion = ViewVariance::default();
        assert_eq!(criterion.drift(&reading(0.5), &reading(0.75)), 0.25);
        assert_eq!(criterion.threshold(), None);
    }
}
