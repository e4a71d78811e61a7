//! How well a model's maps still fit the instances decoded from them: Cellpose's flow error, followed over time.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

/// The change of the mean inconsistency over those images where both readings know it; positive for
/// maps that contradict their own instances more than the untouched model's did. 0 where the model
/// offers no such check, NaN where all instances that could be checked are gone. Sharper outlines excuse nothing of it: they say
/// where cells end, not whether they are cut in pieces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Inconsistency {
    /// The change beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "inconsistency")]
impl StopCriterion for Inconsistency {
    fn name(&self) -> &'static str {
        "inconsistency"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let pairs = initial.inconsistency.iter().zip(&now.inconsistency);
        let changes: Vec<f64> = pairs
            .map(|(initial, now)| now - initial)
            .filter(|change| !change.is_nan())
            .collect();
        if initial.inconsistency.iter().all(|value| value.is_nan()) {
            return 0.;
        }
        changes.iter().sum::<f64>() / changes.len() as f64
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_images_without_instances() {
        let reading = |inconsistency: &[f64]| Reading {
            inconsistency: inconsistency.to_vec(),
            ..Reading::default()
        };
        let criterion = Inconsistency::default();
        let initial = reading(&[0.25, 0.5, f64::NAN]);
        let now = reading(&[0.75, f64::NAN, 0.1]);
        assert_eq!(criterion.drift(&initial, &now), 0.5);
        assert_eq!(criterion.drift(&initial, &initial), 0.0);
        let none = reading(&[f64::NAN; 3]);
        assert_eq!(criterion.drift(&none, &none), 0.0);
        assert!(criterion.drift(&initial, &none).is_nan());
    }
}
