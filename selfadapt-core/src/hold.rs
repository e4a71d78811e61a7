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
        let at = |fall: f64| -> Result<f64> {
            let instances = maps
                .iter()
                .map(|maps| decoder.decode(&self.lowered(maps, fall)?, size))
                .collect::<Result<_>>()?;
            Ok(drift(instances))
        };
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
    use candle_core::{Device, Tensor};

    const FOREGROUND: Foreground = Foreground {
        head: 0,
        bias: "bias",
        index: 1,
    };
    const SIDE: usize = 41;

    /// One object: all pixels whose logit is above 0.
    struct Above;

    impl InstanceDecoder for Above {
        fn decode(&self, maps: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
            let logits = maps.heads[0].flatten_all()?.to_vec1::<f32>()?;
            let pixels = logits.iter().map(|&z| u32::from(z > 0.)).collect();
            Labels::from_rows(height, width, pixels)
        }
    }

    /// A cone of logits that is above 0 within `radius` of the middle.
    fn cone(radius: f64) -> Prediction {
        let middle = (SIDE / 2) as f64;
        let logits: Vec<f32> = (0..SIDE * SIDE)
            .map(|i| {
                let (y, x) = ((i / SIDE) as f64 - middle, (i % SIDE) as f64 - middle);
                (radius - y.hypot(x)) as f32
            })
            .collect();
        let map = Tensor::from_vec(logits, (1, 1, SIDE, SIDE), &Device::Cpu).unwrap();
        Prediction {
            embedding: map.clone(),
            heads: vec![map],
        }
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
        let map = Tensor::full(0.5f32, (1, 1, SIDE, SIDE), &Device::Cpu).unwrap();
        let flat = [Prediction {
            embedding: map.clone(),
            heads: vec![map],
        }];
        let drift = |instances: Vec<Labels>| match area(&instances) {
            0. => f64::NAN,
            _ => -1.,
        };
        let by = FOREGROUND.fall(&flat, (SIDE, SIDE), &Above, &drift);
        assert_eq!(by.unwrap(), 0.);
    }
}
