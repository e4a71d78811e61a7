//! Whether the image changes less along the outlines of the cells that both models find.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::kept::median_change;

/// The median, over the pairs of instances that both models find, of the logarithm of the ratio of how much the image changes
/// along their outlines, initially to now: below 0 where outlines have come to lie on sharper edges.
///
/// The one number here that the model has no part in but by where it draws. 0 where the untouched model found none; NaN
/// where nothing can be compared, or the two readings are not of the same images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dullness {
    /// The IoU from which on two instances are the same one.
    pub iou: f64,
    /// The drift beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

impl Default for Dullness {
    fn default() -> Self {
        Self {
            iou: 0.5,
            threshold: None,
        }
    }
}

#[typetag::serde(name = "dullness")]
impl StopCriterion for Dullness {
    fn name(&self) -> &'static str {
        "dullness"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let at = |reading: &Reading, image: usize, label: u32| {
            let of_image = reading.sharpness.get(image)?;
            of_image
                .get(label as usize - 1)
                .copied()
                .filter(|&edge| edge > 0.)
        };
        median_change(initial, now, self.iou, |cell| {
            let before = at(initial, cell.image, cell.labels.0)?;
            Some((before / at(now, cell.image, cell.labels.1)?).ln())
        })
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

/// The image must change by so much more along outlines (a logarithm of a ratio) for them to be better.
const SHARPER: f64 = 0.01;

/// Whether outlines have come to lie on sharper edges: evidence from outside of the model, which excuses that cells are drawn
/// smaller.
pub(crate) fn sharper(initial: &Reading, now: &Reading) -> bool {
    Dullness::default().drift(initial, now) < -SHARPER
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::labels::Labels;

    fn reading(pixels: &[u32], sharpness: &[f64]) -> Reading {
        Reading {
            instances: vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()],
            sharpness: vec![sharpness.to_vec()],
            ..Reading::default()
        }
    }

    #[test]
    fn sees_outlines_that_lie_on_sharper_or_duller_edges() {
        let criterion = Dullness::default();
        let initial = reading(&[1, 1, 1, 0, 2, 2, 2, 0, 3], &[1., 2., f64::NAN]);
        let sharper = reading(&[1, 1, 0, 0, 2, 2, 0, 0, 3], &[2., 4., 1.]);
        let drift = criterion.drift(&initial, &sharper);
        assert!((drift + 2f64.ln()).abs() < 1e-12, "{drift}");
        assert!((criterion.drift(&sharper, &initial) + drift).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_compare_is_no_drift_and_what_is_not_known_is_not_a_number() {
        let criterion = Dullness::default();
        let (empty, one) = (reading(&[0, 0, 0], &[]), reading(&[1, 1, 1], &[1.]));
        assert_eq!(criterion.drift(&empty, &one), 0.0);
        assert!(criterion.drift(&one, &empty).is_nan());
        assert!(criterion.drift(&one, &reading(&[1, 1, 1], &[])).is_nan());
        assert!(criterion.drift(&one, &reading(&[1, 1], &[1.])).is_nan());
    }
}
