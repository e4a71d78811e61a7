//! Whether the number of instances collapses or explodes.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

/// The absolute logarithm of the ratio of instance counts, now to initially, over all validation
/// images: ln 2 for twice as many as for half as many. One is added to both counts, so that it stays
/// finite where one of them is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceCount {
    /// The drift beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "instance-count")]
impl StopCriterion for InstanceCount {
    fn name(&self) -> &'static str {
        "instance-count"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let count = |reading: &Reading| {
            let counts = reading.instances.iter().map(|labels| labels.count());
            (counts.sum::<usize>() + 1) as f64
        };
        (count(now) / count(initial)).ln().abs()
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::labels::Labels;

    #[test]
    fn doubling_and_halving_drift_alike() {
        let reading = |count: u32| Reading {
            instances: vec![Labels::from_rows(1, count as usize, (1..=count).collect()).unwrap()],
            ..Reading::default()
        };
        let criterion = InstanceCount::default();
        let up = criterion.drift(&reading(3), &reading(7));
        assert!((up - 2f64.ln()).abs() < 1e-12);
        assert_eq!(up, criterion.drift(&reading(7), &reading(3)));
        assert_eq!(criterion.drift(&reading(5), &reading(5)), 0.0);
        assert!(criterion.drift(&reading(5), &reading(0)).is_finite());
    }
}
