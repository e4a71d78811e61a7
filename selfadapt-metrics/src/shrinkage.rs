//! Whether the cells that both models find are drawn smaller than before.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::dullness::sharper;
use crate::kept::median_change;

/// The median, over the pairs of instances that both models find, of the logarithm of the ratio of their areas, initially
/// to now: above 0 where cells are drawn smaller, below 0 where larger.
///
/// Labels that are means over views wear objects away, a little more with each step that learns from them. Unlike the
/// size of all instances this does not move where cells of another size are found anew. What brings outlines closer to the
/// image's edges is no wear: where the image has come to change more along them (`dullness`), a crossing is
/// excused, up to three times the threshold: the sharpest edge of a whole cell may be that of its nucleus. 0 where the
/// untouched model found none; NaN where it did and none of them is found again, or the two readings are not of the same
/// images.
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

/// What sharper outlines excuse, in thresholds.
const EXCUSED: f64 = 3.;

#[typetag::serde(name = "shrinkage")]
impl StopCriterion for Shrinkage {
    fn name(&self) -> &'static str {
        "shrinkage"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        median_change(initial, now, self.iou, |cell| {
            let (before, after) = cell.areas;
            Some((before as f64 / after as f64).ln())
        })
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    fn excused(&self, drift: f64, initial: &Reading, now: &Reading) -> bool {
        let most = self
            .threshold
            .map_or(f64::INFINITY, |threshold| EXCUSED * threshold);
        drift <= most && sharper(initial, now)
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
    fn sharper_outlines_excuse_it_up_to_a_point() {
        let with = |pixels: &[u32], sharpness: f64| Reading {
            sharpness: vec![vec![sharpness]],
            ..reading(pixels)
        };
        let criterion = Shrinkage {
            threshold: Some(0.1),
            ..Shrinkage::default()
        };
        let initial = with(&[1, 1, 1, 1, 1, 0], 1.);
        let excused = |initial: &Reading, now: &Reading| {
            criterion.excused(criterion.drift(initial, now), initial, now)
        };
        // ln(5/4) is below three tenths, ln(5/3) above.
        assert!(excused(&initial, &with(&[1, 1, 1, 1, 0, 0], 1.2)));
        assert!(!excused(&initial, &with(&[1, 1, 1, 1, 0, 0], 1.)));
        assert!(!excused(&initial, &with(&[1, 1, 1, 0, 0, 0], 1.2)));
        assert!(!excused(&reading(&[1, 1]), &reading(&[1, 0])));
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
