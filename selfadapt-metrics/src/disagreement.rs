//! How much two label images of the same crops disagree: the measure behind several criteria.

use selfadapt_core::labels::Labels;

use crate::matching::{Criterion, Overlaps};

/// 1 minus TP / (TP + FP + FN), averaged over IoU 0.5 and 0.75, pooled over crops: in `[0, 1]`, symmetric, 1 where
/// neither has an instance (nothing found agrees with nothing).
pub fn disagreement(ours: &[Labels], theirs: &[Labels]) -> f64 {
    let at = |threshold: f64| {
        let (mut matched, mut either) = (0, 0);
        for (a, b) in ours.iter().zip(theirs) {
            let (hits, objects) = hits_and_objects(a, b, threshold);
            matched += hits;
            either += objects;
        }
        if either == 0 {
            0.
        } else {
            matched as f64 / either as f64
        }
    };
    1. - 0.5 * (at(0.5) + at(0.75))
}

/// Matched pairs, and objects in either image counted once.
fn hits_and_objects(a: &Labels, b: &Labels, threshold: f64) -> (usize, usize) {
    let Ok(overlaps) = Overlaps::new(a, b) else {
        return (0, a.count() + b.count());
    };
    let hits = overlaps.matched(Criterion::Iou, threshold).len();
    (hits, overlaps.truths() + overlaps.predictions() - hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_only_one_side_has() {
        let of =
            |pixels: &[u32]| vec![Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()];
        let two = of(&[1, 1, 0, 2, 2, 0]);
        let one = of(&[1, 1, 0, 0, 0, 0]);
        assert_eq!(disagreement(&two, &one), 0.5);
        assert_eq!(disagreement(&one, &two), 0.5);
        assert_eq!(disagreement(&two, &two), 0.);
        let none = of(&[0, 0, 0, 0, 0, 0]);
        assert_eq!(disagreement(&none, &none), 1.);
    }
}
