//! Which crops of a batch teach at all: those of which enough is sure, and the steadiest of them.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::maps::{Masks, PseudoLabel};

/// How crops are chosen, after the gate has chosen pixels. By default all teach, as in the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// A crop of which the gate admits less than this share of any head's scalars teaches nothing.
    pub least_kept: f64,
    /// Share of a batch's crops that teach: those whose views agree best, at least one.
    pub steadiest: f64,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            least_kept: 0.,
            steadiest: 1.,
        }
    }
}

impl Selection {
    /// Checks the ranges.
    ///
    /// # Errors
    /// If a share lies outside `[0, 1]`, or none would teach.
    pub fn check(&self) -> Result<()> {
        if !(0. ..=1.).contains(&self.least_kept) {
            return Err(Error::Setting(format!(
                "selection.least_kept: expected 0 to 1, found {}",
                self.least_kept
            )));
        }
        if !(self.steadiest > 0. && self.steadiest <= 1.) {
            return Err(Error::Setting(format!(
                "selection.steadiest: expected above 0 and at most 1, found {}",
                self.steadiest
            )));
        }
        Ok(())
    }

    /// Clears the masks (`[B, channels, H, W]` each) of the crops that do not teach.
    ///
    /// # Errors
    /// If masks and label are not of one batch.
    pub fn choose(&self, label: &PseudoLabel, masks: Masks) -> Result<Masks> {
        if self.least_kept == 0. && self.steadiest == 1. {
            return Ok(masks);
        }
        let kept = per_crop(&masks.0)?;
        let spread = per_crop(&label.spread)?;
        let crops = kept.first().map_or(0, Vec::len);
        let mut teaches: Vec<bool> = (0..crops)
            .map(|crop| {
                kept.iter().all(|head| {
                    head.get(crop)
                        .is_some_and(|&share| share >= self.least_kept)
                })
            })
            .collect();
        // Heads have units of their own: each counts by its share of the batch's whole spread.
        let unsteady = |crop: usize| -> f64 {
            let share = |head: &Vec<f64>| {
                let all: f64 = head.iter().sum();
                head.get(crop)
                    .map_or(0., |&of| if all > 0. { of / all } else { 0. })
            };
            spread.iter().map(share).sum()
        };
        let mut order: Vec<usize> = (0..crops).filter(|&crop| teaches[crop]).collect();
        order.sort_by(|&a, &b| unsteady(a).total_cmp(&unsteady(b)));
        let taught = ((crops as f64 * self.steadiest).ceil() as usize).max(1);
        for &crop in order.iter().skip(taught) {
            teaches[crop] = false;
        }
        let weights: Vec<f32> = teaches.iter().map(|&on| f32::from(u8::from(on))).collect();
        let masks = masks.0.iter().map(|mask| {
            let on = Tensor::from_slice(&weights, (crops, 1, 1, 1), mask.device())?;
            mask.broadcast_mul(&on)
        });
        Ok(Masks(masks.collect::<candle_core::Result<_>>()?))
    }
}

/// The mean of each crop's scalars, head by head.
fn per_crop(maps: &[Tensor]) -> Result<Vec<Vec<f64>>> {
    let means = maps.iter().map(|map| {
        let means = map.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
        Ok(means.into_iter().map(f64::from).collect())
    });
    means.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Four crops of one head and four pixels: spread rises from crop to crop, the last has little admitted.
    fn batch() -> (PseudoLabel, Masks) {
        let map = |rows: [[f32; 4]; 4]| {
            Tensor::new(&rows, &Device::Cpu)
                .and_then(|t| t.reshape((4, 1, 2, 2)))
                .unwrap()
        };
        let spread = map([[0.1; 4], [0.3; 4], [0.2; 4], [0.05; 4]]);
        let mask = map([[1.; 4], [1., 1., 1., 0.], [1.; 4], [1., 0., 0., 0.]]);
        let label = PseudoLabel {
            mean: vec![spread.zeros_like().unwrap()],
            spread: vec![spread],
        };
        (label, Masks(vec![mask]))
    }

    fn taught(selection: Selection) -> Vec<f64> {
        let (label, masks) = batch();
        per_crop(&selection.choose(&label, masks).unwrap().0)
            .unwrap()
            .remove(0)
    }

    #[test]
    fn by_default_all_teach() {
        assert_eq!(taught(Selection::default()), [1., 0.75, 1., 0.25]);
    }

    #[test]
    fn hardly_admitted_crops_do_not_teach() {
        let selection = Selection {
            least_kept: 0.5,
            ..Selection::default()
        };
        assert_eq!(taught(selection), [1., 0.75, 1., 0.]);
    }

    #[test]
    fn the_steadiest_of_those_that_may_teach_do() {
        let half = Selection {
            steadiest: 0.5,
            ..Selection::default()
        };
        assert_eq!(taught(half), [1., 0., 0., 0.25]);
        let both = Selection {
            least_kept: 0.5,
            steadiest: 0.5,
        };
        assert_eq!(taught(both), [1., 0., 1., 0.]);
        let one = Selection {
            steadiest: 0.01,
            ..Selection::default()
        };
        assert_eq!(taught(one), [0., 0., 0., 0.25]);
    }

    #[test]
    fn shares_outside_their_range_are_refused() {
        for (least_kept, steadiest) in [(-0.1, 1.), (1.1, 1.), (0., 0.), (0., 1.5), (f64::NAN, 1.)]
        {
            let selection = Selection {
                least_kept,
                steadiest,
            };
            assert!(selection.check().is_err(), "{selection:?}");
        }
    }
}
