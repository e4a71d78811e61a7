//! Whether a model finds the same instances when its images are flipped and turned, followed over time.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::disagreement::disagreement;

/// The change of the disagreement between the instances of the validation crops and those of the same crops seen
/// through another view; negative where the adapted model contradicts itself less than the untouched one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ViewDisagreement {
    /// The change beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "view-disagreement")]
impl StopCriterion for ViewDisagreement {
    fn name(&self) -> &'static str {
        "view-disagreement"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let of = |reading: &Reading| disagreement(&reading.instances, &reading.turned);
        of(now) - of(initial)
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
    fn falls_where_views_come_to_agree() {
        let reading = |plain: &[u32], turned: &[u32]| {
            let labels =
                |pixels: &[u32]| vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()];
            Reading {
                instances: labels(plain),
                turned: labels(turned),
                ..Reading::default()
            }
        };
        let torn = reading(&[1, 1, 0, 2, 2, 0], &[1, 1, 0, 0, 0, 0]);
        let whole = reading(&[1, 1, 0, 2, 2, 0], &[1, 1, 0, 2, 2, 0]);
        let criterion = ViewDisagreement::default();
        assert_eq!(criterion.drift(&torn, &whole), -0.5);
        assert_eq!(criterion.drift(&torn, &torn), 0.);
    }
}
