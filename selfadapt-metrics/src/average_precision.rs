//! Average precision of an instance segmentation, as Cellpose's `metrics.average_precision` counts it.

use selfadapt_core::error::Result;
use selfadapt_core::labels::Labels;
use serde::Serialize;

use crate::matching::{Criterion, Overlaps};

/// Counts and score at one IoU threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AveragePrecision {
    /// The IoU that a match must reach.
    pub threshold: f64,
    /// TP / (TP + FP + FN) in `[0, 1]`; NaN if there is no object in either image.
    pub ap: f64,
    /// Predicted objects that were matched to a true one.
    pub true_positives: usize,
    /// Predicted objects that were not.
    pub false_positives: usize,
    /// True objects that were not found.
    pub false_negatives: usize,
}

impl AveragePrecision {
    /// Counts and score from overlaps.
    pub fn at(overlaps: &Overlaps, threshold: f64) -> Self {
        let matched = overlaps.matched(Criterion::Iou, threshold).len();
        Self::from_counts(
            threshold,
            matched,
            overlaps.predictions() - matched,
            overlaps.truths() - matched,
        )
    }

    /// The score that belongs to counts (those of one image, or sums over many).
    pub fn from_counts(
        threshold: f64,
        true_positives: usize,
        false_positives: usize,
        false_negatives: usize,
    ) -> Self {
        let objects = true_positives + false_positives + false_negatives;
        Self {
            threshold,
            ap: true_positives as f64 / objects as f64,
            true_positives,
            false_positives,
            false_negatives,
        }
    }
}

/// Average precision of `prediction` against `truth` at each IoU threshold in `(0, 1]`.
///
/// Objects are counted by how many there are; Cellpose counts by the largest label, which is the same
/// wherever labels have no gaps.
///
/// # Errors
/// If the two images differ in size.
pub fn average_precision(
    truth: &Labels,
    prediction: &Labels,
    thresholds: &[f64],
) -> Result<Vec<AveragePrecision>> {
    let overlaps = Overlaps::new(truth, prediction)?;
    Ok(thresholds
        .iter()
        .map(|&threshold| AveragePrecision::at(&overlaps, threshold))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::tests::two_labels;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_image_against_itself_is_perfect((a, _) in two_labels()) {
            for found in average_precision(&a, &a, &[0.3, 0.5, 1.0]).unwrap() {
                prop_assert!(found.ap == 1.0 || (a.count() == 0 && found.ap.is_nan()));
            }
        }

        #[test]
        fn counts_add_up_and_the_score_falls_with_the_threshold((a, b) in two_labels()) {
            let found = average_precision(&a, &b, &[0.2, 0.5, 0.8]).unwrap();
            for at in &found {
                prop_assert_eq!(at.true_positives + at.false_positives, b.count());
                prop_assert_eq!(at.true_positives + at.false_negatives, a.count());
            }
            let falls = found.windows(2).all(|two| two[1].ap <= two[0].ap);
            prop_assert!(falls || a.count() + b.count() == 0);
        }
    }
}
