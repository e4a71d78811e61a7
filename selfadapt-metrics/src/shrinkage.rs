//! Whether the cells that both models find are drawn smaller than before.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::matching::{Criterion, Overlaps};
use crate::median::median;

/// The median, over the pairs of instances that both models find, of the logarithm of the ratio of their areas, initially
/// to now: above 0 where cells are drawn smaller, below 0 where larger.
///
/// Labels that are means over views wear objects away, a little more with each step that learns from them. Unlike the
/// size of all instances this does not move where cells of another size are found anew. 0 where the untouched model found
/// none; NaN where it did and none of them is found again, or the two readings are not of the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shrinkage {
    /// The IoU from which on two instances are the same one.
    pub iou: f64,
    /// The drift beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

impl Default for Shrinkage {
    fn default() -> Self {
        Self {
            iou: 0.5,
            threshold: None,
        }
    }
}

#[typetag::serde(name = "shrinkage")]
impl StopCriterion for Shrinkage {
    fn name(&self) -> &'static str {
        "shrinkage"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let Some(series) = Overlaps::of_series(&initial.instances, &now.instances) else {
            return f64::NAN;
        };
        let (mut ratios, mut found) = (Vec::new(), 0);
        for overlaps in series {
            found += overlaps.truths();
            for pair in overlaps.matched(Criterion::Iou, self.iou) {
                let (before, after) = overlaps.areas(&pair.overlap);
                ratios.push((before as f64 / after as f64).ln());
            }
        }
        match median(ratios) {
            Some(ratio) => ratio,
            None if found == 0 => 0.0,
            None => f64::NAN,
        }
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::labels::Labels;

    fn reading(pixels: &[u32]) -> Reading {
        Reading {
            instances: vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()],
            ..Reading::default()
        }
    }

    #[test]
    fn sees_cells_that_are_drawn_smaller_and_not_those_found_anew() {
        let criterion = Shrinkage::default();
        let initial = reading(&[1, 1, 1, 0, 2, 2, 2, 0, 0, 0]);
        let smaller = reading(&[1, 1, 0, 0, 2, 2, 0, 0, 0, 0]);
        let drift = criterion.drift(&initial, &smaller);
        assert!((drift - 1.5f64.ln()).abs() < 1e-12, "{drift}");
        assert!((criterion.drift(&smaller, &initial) + drift).abs() < 1e-12);
        let anew = reading(&[1, 1, 1, 0, 2, 2, 2, 0, 3, 0]);
        assert_eq!(criterion.drift(&initial, &anew), 0.0);
    }

    #[test]
    fn nothing_to_compare_is_no_drift_and_nothing_found_again_is_not_a_number() {
        let criterion = Shrinkage::default();
        let (empty, one) = (reading(&[0, 0, 0]), reading(&[1, 1, 1]));
        assert_eq!(criterion.drift(&empty, &one), 0.0);
        assert!(criterion.drift(&one, &empty).is_nan());
        assert!(criterion.drift(&one, &reading(&[1, 1])).is_nan());
        assert!(criterion.drift(&one, &Reading::default()).is_nan());
    }
}
