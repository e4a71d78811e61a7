//! Which share of a model's instability is gone, followed over time.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::instability;

/// The change of `instability` as a share of what it was at first: -0.25 where a quarter of what the untouched model lost
/// under degradation is found now. How many cells a model loses depends on the model and on its images (a twentieth where it
/// fits, two thirds where it hardly does), so that the same number of cells is much for one and next to nothing for another.
///
/// For a model that lost nothing at first it is the change itself: there is no share of nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RelativeInstability {
    /// The change beyond which adaptation stops; none only records it.
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "relative-instability")]
impl StopCriterion for RelativeInstability {
    fn name(&self) -> &'static str {
        "relative-instability"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let (first, now) = (instability::of(initial), instability::of(now));
        if first > 0. { now / first - 1. } else { now }
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::labels::Labels;

    /// A reading of four cells, of which `lost` are not found in the degraded crop.
    fn reading(lost: u32) -> Reading {
        let row = |from: u32| {
            let cells = (from..4).flat_map(|cell| [cell + 1, cell + 1, 0]);
            let mut row: Vec<u32> = cells.collect();
            row.splice(0..0, vec![0; 3 * from as usize]);
            vec![Labels::from_rows(1, 12, row).unwrap()]
        };
        Reading {
            instances: row(0),
            degraded: row(lost),
            ..Reading::default()
        }
    }

    #[test]
    fn what_is_won_is_measured_by_what_was_lost() {
        let drift = |first: u32, now: u32| {
            RelativeInstability::default().drift(&reading(first), &reading(now))
        };
        assert_eq!(drift(2, 1), -0.5);
        assert_eq!(drift(2, 2), 0.);
        assert_eq!(drift(1, 3), 2.);
        // A model that loses nothing has nothing to win.
        assert_eq!(drift(0, 0), 0.);
        assert_eq!(drift(0, 1), 0.25);
    }
}
