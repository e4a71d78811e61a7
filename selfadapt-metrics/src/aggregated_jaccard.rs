//! The aggregated Jaccard index, as Cellpose's `metrics.aggregated_jaccard_index` computes it.

use crate::matching::{Criterion, Overlaps};

/// Pixels shared by the pairs of a one-to-one matching, over pixels covered by either image.
///
/// Not the index of Kumar et al. 2017: the matching is the assignment at IoU 0.5 with its pairs of
/// smaller IoU kept, and the union is that of the foregrounds. In `[0, 1]`; NaN if both images are empty.
pub fn aggregated_jaccard(overlaps: &Overlaps) -> f64 {
    let shared: usize = overlaps
        .assignment(Criterion::Iou, 0.5)
        .iter()
        .map(|found| found.overlap.intersection)
        .sum();
    shared as f64 / overlaps.foreground() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::tests::two_labels;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lies_between_nothing_and_identity((a, b) in two_labels()) {
            let of = |a, b| aggregated_jaccard(&Overlaps::new(a, b).unwrap());
            prop_assert!(of(&a, &a) == 1.0 || a.count() == 0);
            prop_assert!((0.0..=1.0).contains(&of(&a, &b)) || a.count() + b.count() == 0);
        }
    }
}
