//! Holding the size of cells: what has learned without labels may find more cells and draw them larger; the bias of the
//! foreground's logit takes the latter back.

use crate::error::Result;
use crate::foreground::Foreground;
use crate::labels::Labels;
use crate::maps::Prediction;
use crate::model::InstanceDecoder;

/// Growth up to this (a logarithm of a ratio of areas) is left alone: pixels are whole.
const TOLERANCE: f64 = 0.01;
/// The most that logits fall at once.
const MOST: f64 = 4.;
/// How closely the fall is found.
const PRECISION: f64 = 1. / 32.;

impl Foreground {
    /// By how much the logits of `maps` must fall for `drift`, asked of the instances decoded from them, not to lie below
    /// zero; 0 where it does not, or where only a fall that leaves nothing to compare would do. `drift` is taken to rise with
    /// the fall.
    ///
    /// # Errors
    /// If the maps do not fit the decoder, or have no such head.
    pub fn fall(
        &self,
        maps: &[Prediction],
        size: (usize, usize),
        decoder: &dyn InstanceDecoder,
        drift: &dyn Fn(Vec<Labels>) -> f64,
    ) -> Result<f64> {
        let at = |fall: f64| -> Result<f64> { Ok(drift(self.drawn(maps, fall, size, decoder)?)) };
        let first = at(0.)?;
        if first.is_nan() || first >= -TOLERANCE {
            return Ok(0.);
        }
        let (mut short, mut enough) = (0., MOST);
        while enough - short > PRECISION {
            let middle = 0.5 * (short + enough);
            // Where no cell is left to compare, the drift is no number: too far.
            if at(middle)? < 0. {
                short = middle;
            } else {
                enough = middle;
            }
        }
        // Cells that all vanish at once are not held to their size.
        let left = !at(enough)?.is_nan();
        Ok(if left { enough } else { 0. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreground::fixtures::{Above, FOREGROUND, square};

    const SIDE: usize = 41;

    /// A cone of logits that is above 0 within `radius` of the middle.
    fn cone(radius: f64) -> Prediction {
        let middle = (SIDE / 2) as f64;
        square(SIDE, |y, x| {
            radius - (y as f64 - middle).hypot(x as f64 - middle)
        })
    }

    fn area(instances: &[Labels]) -> f64 {
        let of = |labels: &Labels| labels.pixels().iter().filter(|&&label| label > 0).count();
        instances.iter().map(of).sum::<usize>() as f64
    }

    fn fall(before: f64, now: f64) -> f64 {
        let size = (SIDE, SIDE);
        let first = area(&[Above.decode(&cone(before), size).unwrap()]);
        // The logarithm of the ratio of areas, as `shrinkage` has it; no number where nothing is left.
        let drift = |instances: Vec<Labels>| match area(&instances) {
            0. => f64::NAN,
            left => (first / left).ln(),
        };
        let maps = [cone(now)];
        FOREGROUND.fall(&maps, size, &Above, &drift).unwrap()
    }

    #[test]
    fn logits_fall_until_cells_are_no_larger_than_they_were() {
        let by = fall(8., 10.);
        assert!((by - 2.).abs() < 0.3, "{by}");
        assert!(fall(8., 8. + by) >= by - 2. * PRECISION);
        assert_eq!(fall(8., 8.), 0.);
        assert_eq!(fall(8., 7.), 0., "cells that shrink are another matter");
        assert_eq!(fall(2., 19.), MOST, "there is an end to it");
    }

    #[test]
    fn cells_that_would_all_vanish_are_left_alone() {
        let flat = [square(SIDE, |_, _| 0.5)];
        let drift = |instances: Vec<Labels>| match area(&instances) {
            0. => f64::NAN,
            _ => -1.,
        };
        let by = FOREGROUND.fall(&flat, (SIDE, SIDE), &Above, &drift);
        assert_eq!(by.unwrap(), 0.);
    }
}
