//! The cells that both of two readings find: shared by criteria.

use selfadapt_core::stop::Reading;

use crate::matching::{Criterion, Overlaps};
use crate::median::median;

/// One such cell, before and after.
pub(crate) struct Kept {
    /// In which image.
    pub image: usize,
    /// Its labels.
    pub labels: (u32, u32),
    /// Its pixels.
    pub areas: (usize, usize),
}

/// The median of `change`, by how much some number falls, over the cells of `initial` that `now` finds again at an IoU of
/// `iou`, and of which it is known. 0 where `initial` has no cells; NaN where there is nothing else to compare, or the two are
/// not of the same images.
pub(crate) fn median_change(
    initial: &Reading,
    now: &Reading,
    iou: f64,
    change: impl Fn(&Kept) -> Option<f64>,
) -> f64 {
    let Some(series) = Overlaps::of_series(&initial.instances, &now.instances) else {
        return f64::NAN;
    };
    let (mut changes, mut first) = (Vec::new(), 0);
    for (image, overlaps) in series.iter().enumerate() {
        first += overlaps.truths();
        let matched = overlaps.matched(Criterion::Iou, iou);
        changes.extend(matched.iter().filter_map(|found| {
            change(&Kept {
                image,
                labels: (found.overlap.truth, found.overlap.prediction),
                areas: overlaps.areas(&found.overlap),
            })
        }));
    }
    match median(changes) {
        Some(change) => change,
        None if first == 0 => 0.0,
        None => f64::NAN,
    }
}
