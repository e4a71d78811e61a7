//! Whether instances shrink or grow.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::median::median;

/// The absolute logarithm of the ratio of median instance areas, now to initially, over all validation
/// images. 0 where neither model finds an instance, NaN where only one does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceSize {
    /// The drift beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "instance-size")]
impl StopCriterion for InstanceSize {
    fn name(&self) -> &'static str {
        "instance-size"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        match (median_area(initial), median_area(now)) {
            (Some(initial), Some(now)) => (now / initial).ln().abs(),
            (None, None) => 0.0,
            _ => f64::NAN,
        }
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

/// Median area in pixels over all instances; none if there is no instance.
fn median_area(reading: &Reading) -> Option<f64> {
    let areas = reading.instances.iter().flat_map(|l| l.areas());
    median(areas.map(|area| area as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::labels::Labels;

    #[test]
    fn follows_the_median() {
        let reading = |pixels: &[u32]| Reading {
            instances: vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()],
            ..Reading::default()
        };
        let initial = reading(&[1, 1, 2, 2, 3, 3, 3, 3]);
        let now = reading(&[1, 1, 1, 1, 0, 0, 0, 0]);
        let criterion = InstanceSize::default();
        assert_eq!(criterion.drift(&initial, &now), 2f64.ln());
        assert_eq!(criterion.drift(&initial, &initial), 0.0);
        assert!(criterion.drift(&initial, &reading(&[0])).is_nan());
        assert_eq!(criterion.drift(&reading(&[0]), &reading(&[0])), 0.0);
    }
}
