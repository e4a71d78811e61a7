//! Whether a model still finds the same instances when its images get worse, followed over time.

use selfadapt_core::labels::Labels;
use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::matching::{Criterion, Overlaps};

/// The change of the disagreement between the instances of the validation crops and those of the same crops
/// after a fixed degradation; negative where the adapted model has become steadier than the untouched one.
///
/// Disagreement is 1 minus TP / (TP + FP + FN), averaged over IoU 0.5 and 0.75, pooled over crops: in `[0, 1]`.
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
        disagreement(now) - disagreement(initial)
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

/// How much a model disagrees with itself under degradation; 1 where it finds nothing either way.
pub fn disagreement(reading: &Reading) -> f64 {
    let at = |threshold: f64| {
        let (mut matched, mut either) = (0, 0);
        for (clean, degraded) in reading.instances.iter().zip(&reading.degraded) {
            let (hits, objects) = hits_and_objects(clean, degraded, threshold);
            matched += hits;
            either += objects;
        }
        if either == 0 {
            0.
        } else {
            matched as f64 / either as f64
        }
    };
    1. - 0.5 * (at(0.5) + at(0.75))
}

/// Matched pairs, and objects in either image counted once.
fn hits_and_objects(a: &Labels, b: &Labels, threshold: f64) -> (usize, usize) {
    let Ok(overlaps) = Overlaps::new(a, b) else {
        return (0, a.count() + b.count());
    };
    let hits = overlaps.matched(Criterion::Iou, threshold).len();
    (hits, overlaps.truths() + overlaps.predictions() - hits)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(disagreement(&shaky), 0.5);
        assert_eq!(disagreement(&steady), 0.);
        assert_eq!(Instability::default().drift(&shaky, &steady), -0.5);
        assert_eq!(Instability::default().drift(&shaky, &shaky), 0.);
        assert_eq!(disagreement(&reading(&[0, 0], &[0, 0])), 1.);
    }
}
