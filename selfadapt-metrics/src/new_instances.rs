//! The mirror of the false-negative rate: the share of the current instances that are new.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::false_negative_rate::missed_share;

/// The share of the current model's instances that the untouched model did not have.
///
/// In `[0, 1]`, pooled over all validation images; 0 if the current model finds none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewInstances {
    /// The IoU at which an instance counts as known.
    pub iou: f64,
    /// The share beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

impl Default for NewInstances {
    fn default() -> Self {
        Self {
            iou: 0.5,
            threshold: None,
        }
    }
}

#[typetag::serde(name = "new-instances")]
impl StopCriterion for NewInstances {
    fn name(&self) -> &'static str {
        "new-instances"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        missed_share(&now.instances, &initial.instances, self.iou)
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
    fn counts_what_is_new_and_ignores_what_was_lost() {
        let reading = |pixels: &[u32]| Reading {
            instances: vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()],
            ..Reading::default()
        };
        let initial = reading(&[1, 1, 0, 2, 2, 0]);
        let criterion = NewInstances::default();
        assert_eq!(
            criterion.drift(&initial, &reading(&[1, 1, 0, 0, 0, 0])),
            0.0
        );
        assert_eq!(
            criterion.drift(&initial, &reading(&[1, 1, 0, 0, 0, 3])),
            0.5
        );
        assert_eq!(criterion.drift(&initial, &initial), 0.0);
    }
}
