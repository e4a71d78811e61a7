//! The cells that both of two readings find: shared by criteria.

use selfadapt_core::stop::Reading;

use crate::matching::{Criterion, Overlaps};

/// One such cell, before and after.
pub(crate) struct Kept {
    /// In which image.
    pub image: usize,
    /// Its labels.
    pub labels: (u32, u32),
    /// Its pixels.
    pub areas: (usize, usize),
}

/// The cells of `initial` that `now` finds again at an IoU of `iou`, and how many `initial` has; none if the two are not of the
/// same images.
pub(crate) fn kept(initial: &Reading, now: &Reading, iou: f64) -> Option<(Vec<Kept>, usize)> {
    let series = Overlaps::of_series(&initial.instances, &now.instances)?;
    let (mut kept, mut first) = (Vec::new(), 0);
    for (image, overlaps) in series.iter().enumerate() {
        first += overlaps.truths();
        kept.extend(
            overlaps
                .matched(Criterion::Iou, iou)
                .iter()
                .map(|found| Kept {
                    image,
                    labels: (found.overlap.truth, found.overlap.prediction),
                    areas: overlaps.areas(&found.overlap),
                }),
        );
    }
    Some((kept, first))
}
