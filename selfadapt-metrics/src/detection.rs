//! Detection scores of a matching: precision, recall, accuracy, F1 and panoptic quality, as StarDist's
//! `matching.matching` defines them.

use serde::Serialize;

use crate::matching::{Criterion, Overlaps};

/// Scores at one threshold; every ratio is 0 where its denominator is, and lies in `[0, 1]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Detection {
    /// What the threshold applies to.
    pub criterion: Criterion,
    /// The score that a match must reach.
    pub threshold: f64,
    /// Matched pairs.
    pub true_positives: usize,
    /// Predicted objects without a match.
    pub false_positives: usize,
    /// True objects without a match.
    pub false_negatives: usize,
    /// TP / (TP + FP).
    pub precision: f64,
    /// TP / (TP + FN).
    pub recall: f64,
    /// TP / (TP + FP + FN).
    pub accuracy: f64,
    /// 2 TP / (2 TP + FP + FN).
    pub f1: f64,
    /// Sum of the matches' scores over the number of true objects.
    pub mean_true_score: f64,
    /// Sum of the matches' scores over their number.
    pub mean_matched_score: f64,
    /// Sum of the matches' scores over TP + FP / 2 + FN / 2 (Kirillov et al. 2019).
    pub panoptic_quality: f64,
}

impl Detection {
    /// Matches by `criterion` at `threshold` and scores the matches.
    pub fn at(overlaps: &Overlaps, criterion: Criterion, threshold: f64) -> Self {
        let matches = overlaps.matched(criterion, threshold);
        let sum: f64 = matches.iter().map(|found| found.score).sum();
        let tp = matches.len();
        let (fp, fn_) = (overlaps.predictions() - tp, overlaps.truths() - tp);
        let [hits, misses] = [tp as f64, (fp + fn_) as f64];
        Self {
            criterion,
            threshold,
            true_positives: tp,
            false_positives: fp,
            false_negatives: fn_,
            precision: ratio(hits, overlaps.predictions() as f64),
            recall: ratio(hits, overlaps.truths() as f64),
            accuracy: ratio(hits, hits + misses),
            f1: ratio(2.0 * hits, 2.0 * hits + misses),
            mean_true_score: ratio(sum, overlaps.truths() as f64),
            mean_matched_score: ratio(sum, hits),
            panoptic_quality: ratio(sum, hits + misses / 2.0),
        }
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::tests::two_labels;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn panoptic_quality_is_f1_times_the_mean_matched_score((a, b) in two_labels()) {
            let overlaps = Overlaps::new(&a, &b).unwrap();
            for criterion in [Criterion::Iou, Criterion::Iot, Criterion::Iop] {
                let found = Detection::at(&overlaps, criterion, 0.4);
                let product = found.f1 * found.mean_matched_score;
                prop_assert!((found.panoptic_quality - product).abs() < 1e-12);
                prop_assert!(found.accuracy <= found.f1);
            }
        }
    }
}
