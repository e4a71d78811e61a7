//! The share of the untouched model's instances that the current model misses (paper, section 2.2).

use selfadapt_core::labels::Labels;
use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::matching::{Criterion, Overlaps};

/// Stops once too many of the instances that the untouched model found are lost.
///
/// In `[0, 1]`, pooled over all validation images; 0 if the untouched model found none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FalseNegativeRate {
    /// The IoU at which an instance counts as found again (the paper gives none).
    pub iou: f64,
    /// The rate beyond which adaptation stops; `inf` only records it.
    pub threshold: f64,
}

impl Default for FalseNegativeRate {
    fn default() -> Self {
        Self {
            iou: 0.5,
            threshold: 0.25,
        }
    }
}

#[typetag::serde(name = "false-negative-rate")]
impl StopCriterion for FalseNegativeRate {
    fn name(&self) -> &'static str {
        "false-negative-rate"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        missed_share(&initial.instances, &now.instances, self.iou)
    }

    fn threshold(&self) -> Option<f64> {
        Some(self.threshold)
    }
}

/// The share of the objects in `reference` without a partner in `found` at `iou`, pooled over images.
///
/// In `[0, 1]`, and 0 where `reference` holds no object. NaN if the two are not of the same images
/// (their number or sizes differ).
pub fn missed_share(reference: &[Labels], found: &[Labels], iou: f64) -> f64 {
    let Some(series) = Overlaps::of_series(reference, found) else {
        return f64::NAN;
    };
    let (mut objects, mut missed) = (0, 0);
    for overlaps in series {
        objects += overlaps.truths();
        missed += overlaps.truths() - overlaps.matched(Criterion::Iou, iou).len();
    }
    if objects == 0 {
        0.0
    } else {
        missed as f64 / objects as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::tests::two_labels;
    use proptest::prelude::*;

    fn reading(labels: Labels) -> Reading {
        Reading {
            instances: vec![labels],
            ..Reading::default()
        }
    }

    #[test]
    fn counts_what_was_lost_and_ignores_what_is_new() {
        let initial = Labels::from_rows(1, 6, vec![1, 1, 0, 2, 2, 0]).unwrap();
        let now = Labels::from_rows(1, 6, vec![1, 1, 0, 0, 0, 3]).unwrap();
        let criterion = FalseNegativeRate::default();
        assert_eq!(
            criterion.drift(&reading(initial.clone()), &reading(now)),
            0.5
        );
        let other = Labels::empty(1, 5);
        assert!(criterion.drift(&reading(initial), &reading(other)).is_nan());
    }

    #[test]
    fn is_found_by_its_name_and_refuses_unknown_fields() {
        let parse = |text| serde_json::from_str::<Box<dyn StopCriterion>>(text);
        let criterion = parse(r#"{"criterion": "false-negative-rate", "threshold": 0.3}"#).unwrap();
        assert_eq!(criterion.threshold(), Some(0.3));
        assert_eq!(criterion.name(), "false-negative-rate");
        let message = parse(r#"{"criterion": "false-negative-rate", "treshold": 0.3}"#)
            .unwrap_err()
            .to_string();
        assert!(message.contains("unknown field `treshold`"), "{message}");
    }

    proptest! {
        #[test]
        fn is_a_share_and_zero_for_the_untouched_model((a, b) in two_labels()) {
            let criterion = FalseNegativeRate::default();
            let (a, b) = (reading(a), reading(b));
            prop_assert_eq!(criterion.drift(&a, &a), 0.0);
            prop_assert!((0.0..=1.0).contains(&criterion.drift(&a, &b)));
        }
    }
}
