//! What became of every object between two segmentations of one image: kept, reshaped, split, merged, lost, gained.

use selfadapt_core::error::Result;
use selfadapt_core::labels::Labels;

use crate::matching::{Criterion, Overlaps};

/// The IoU from which an object counts as found again, the usual one of the field.
pub const FOUND_AGAIN: f64 = 0.5;

/// An object lies in another if more than this share of its pixels does.
const LIES_IN: f64 = 0.5;

/// What became of one object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Found in both with an IoU of at least [`FOUND_AGAIN`].
    Kept,
    /// One object in both, with less overlap than that.
    Reshaped,
    /// One object before, two or more that lie in it after.
    Split,
    /// Two or more objects before, one that they lie in after.
    Merged,
    /// Without a counterpart: lost if it was there before, gained if it is there after.
    #[default]
    Alone,
}

/// The fates of all objects of one image; entry `i` belongs to label `i + 1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Of the objects before.
    pub before: Vec<Fate>,
    /// Of the objects after.
    pub after: Vec<Fate>,
}

/// How many objects had which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Objects before.
    pub before: usize,
    /// Objects after.
    pub after: usize,
    /// Found in both.
    pub kept: usize,
    /// In both, with less than half of their union shared.
    pub reshaped: usize,
    /// Objects before that are several after.
    pub split: usize,
    /// Objects after that were several before.
    pub merged: usize,
    /// Objects before without a counterpart after.
    pub lost: usize,
    /// Objects after without a counterpart before.
    pub gained: usize,
}

impl Changes {
    /// Compares two segmentations of one image.
    ///
    /// # Errors
    /// If they differ in size.
    pub fn between(before: &Labels, after: &Labels) -> Result<Self> {
        let overlaps = Overlaps::new(before, after)?;
        let mut fates = Self {
            before: vec![Fate::Alone; before.count()],
            after: vec![Fate::Alone; after.count()],
        };
        let pairs: Vec<(usize, usize, f64, f64)> = overlaps
            .pairs()
            .iter()
            .map(|pair| {
                (
                    pair.truth as usize - 1,
                    pair.prediction as usize - 1,
                    overlaps.score(pair, Criterion::Iot),
                    overlaps.score(pair, Criterion::Iop),
                )
            })
            .collect();
        let mut parts = vec![Vec::new(); before.count()];
        let mut members = vec![Vec::new(); after.count()];
        for &(old, new, of_old, of_new) in &pairs {
            if of_new > LIES_IN {
                parts[old].push(new);
            }
            if of_old > LIES_IN {
                members[new].push(old);
            }
        }
        for (old, parts) in parts.iter().enumerate().filter(|(_, p)| p.len() > 1) {
            fates.before[old] = Fate::Split;
            for &part in parts {
                fates.after[part] = Fate::Split;
            }
        }
        for (new, members) in members.iter().enumerate().filter(|(_, m)| m.len() > 1) {
            fates.after[new] = Fate::Merged;
            for &member in members {
                fates.before[member] = Fate::Merged;
            }
        }
        for found in overlaps.matched(Criterion::Iou, FOUND_AGAIN) {
            let old = found.overlap.truth as usize - 1;
            let new = found.overlap.prediction as usize - 1;
            if fates.before[old] == Fate::Alone && fates.after[new] == Fate::Alone {
                fates.before[old] = Fate::Kept;
                fates.after[new] = Fate::Kept;
            }
        }
        // Whoever still has a counterpart is neither lost nor gained.
        for &(old, new, of_old, of_new) in &pairs {
            if of_old.max(of_new) > LIES_IN {
                for fate in [&mut fates.before[old], &mut fates.after[new]] {
                    if *fate == Fate::Alone {
                        *fate = Fate::Reshaped;
                    }
                }
            }
        }
        Ok(fates)
    }

    /// How many objects had which fate.
    pub fn counts(&self) -> Counts {
        let of = |fates: &[Fate], fate: Fate| fates.iter().filter(|&&f| f == fate).count();
        Counts {
            before: self.before.len(),
            after: self.after.len(),
            kept: of(&self.after, Fate::Kept),
            reshaped: of(&self.after, Fate::Reshaped),
            split: of(&self.before, Fate::Split),
            merged: of(&self.after, Fate::Merged),
            lost: of(&self.before, Fate::Alone),
            gained: of(&self.after, Fate::Alone),
        }
    }
}

impl std::iter::Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            before: a.before + b.before,
            after: a.after + b.after,
            kept: a.kept + b.kept,
            reshaped: a.reshaped + b.reshaped,
            split: a.split + b.split,
            merged: a.merged + b.merged,
            lost: a.lost + b.lost,
            gained: a.gained + b.gained,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matching::tests::two_labels;
    use proptest::prelude::*;

    fn row(pixels: &[u32]) -> Labels {
        Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()
    }

    #[test]
    fn every_fate_is_told() {
        // Label:        kept     split        merged       lost  reshaped
        let before = row(&[
            1, 1, 0, 2, 2, 2, 2, 0, 3, 3, 4, 4, 0, 5, 0, 6, 6, 6, 6, 6, 0, 0,
        ]);
        let after = row(&[
            1, 1, 0, 2, 2, 3, 3, 0, 4, 4, 4, 4, 0, 0, 0, 5, 5, 0, 0, 0, 0, 6,
        ]);
        let changes = Changes::between(&before, &after).unwrap();
        use Fate::{Alone, Kept, Merged, Reshaped, Split};
        assert_eq!(
            changes.before,
            [Kept, Split, Merged, Merged, Alone, Reshaped]
        );
        assert_eq!(changes.after, [Kept, Split, Split, Merged, Reshaped, Alone]);
        let counts = changes.counts();
        assert_eq!(
            counts,
            Counts {
                before: 6,
                after: 6,
                kept: 1,
                reshaped: 1,
                split: 1,
                merged: 1,
                lost: 1,
                gained: 1,
            }
        );
    }

    #[test]
    fn a_fragment_that_breaks_off_makes_a_split_of_a_cell_that_is_found_again() {
        let before = row(&[1, 1, 1, 1, 1]);
        let after = row(&[1, 1, 1, 1, 2]);
        let changes = Changes::between(&before, &after).unwrap();
        assert_eq!(changes.before, [Fate::Split]);
        assert_eq!(changes.after, [Fate::Split, Fate::Split]);
    }

    proptest! {
        #[test]
        fn nothing_changes_between_an_image_and_itself((a, _) in two_labels()) {
            let counts = Changes::between(&a, &a).unwrap().counts();
            prop_assert_eq!(counts.kept, a.count());
            prop_assert_eq!(counts.kept, counts.before);
        }

        #[test]
        fn time_turned_back_swaps_split_with_merged_and_lost_with_gained((a, b) in two_labels()) {
            let forth = Changes::between(&a, &b).unwrap();
            let back = Changes::between(&b, &a).unwrap();
            prop_assert_eq!(forth.counts().lost, back.counts().gained);
            prop_assert_eq!(forth.counts().gained, back.counts().lost);
            let turned = |fates: &[Fate]| -> Vec<bool> {
                fates.iter().map(|f| *f == Fate::Alone).collect()
            };
            prop_assert_eq!(turned(&forth.before), turned(&back.after));
        }
    }
}
