//! Whether a model still finds the same instances when its images get worse, followed over time.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::disagreement::disagreement;

/// The change of the disagreement between the instances of the validation crops and those of the same crops
/// after a fixed degradation; negative where the adapted model has become steadier than the untouched one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instability {
    /// The change beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "instability")]
impl StopCriterion for Instability {
    fn name(&self) -> &'static str {
        "instability"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        of(now) - of(initial)
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

/// How much a model disagrees with itself under degradation.
fn of(reading: &Reading) -> f64 {
    disagreement(&reading.instances, &reading.degraded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::labels::Labels;

    fn reading(clean: &[u32], degraded: &[u32]) -> Reading {
        let labels =
            |pixels: &[u32]| vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()];
        Reading {
            instances: labels(clean),
            degraded: labels(degraded),
            ..Reading::default()
        }
    }

    #[test]
    fn steadier_models_drift_below_zero() {
        let shaky = reading(&[1, 1, 0, 2, 2, 0], &[1, 1, 0, 0, 0, 0]);
        let steady = reading(&[1, 1, 0, 2, 2, 0], &[1, 1, 0, 2, 2, 0]);
        assert_eq!(of(&shaky), 0.5);
        assert_eq!(of(&steady), 0.);
        assert_eq!(Instability::default().drift(&shaky, &steady), -0.5);
        assert_eq!(Instability::default().drift(&shaky, &shaky), 0.);
        assert_eq!(of(&reading(&[0, 0], &[0, 0])), 1.);
    }
}
