//! Lengths that a model predicts: the weights that all of them are proportional to, by which the size of objects is held where it
//! regresses their borders.

use crate::error::{Error, Result};
use crate::labels::Labels;
use crate::maps::Prediction;
use crate::model::InstanceDecoder;
use crate::params::ParamSet;

/// Drifts up to this (a logarithm of a ratio of areas) are left alone: pixels are whole.
const TOLERANCE: f64 = 0.01;
/// Lengths are multiplied by 2 at most, or by a half, at once: the logarithm.
const MOST: f64 = std::f64::consts::LN_2;
/// How closely the logarithm of the factor is found.
const PRECISION: f64 = 1. / 256.;

/// A head of lengths, and the weights, of a last linear layer and its bias, that all of them are proportional to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// The head whose maps are the lengths, among `SegmentationModel::heads`.
    pub head: usize,
    /// Names of the weights.
    pub weights: &'static [&'static str],
}

impl Lengths {
    /// The factor on the lengths of `maps` for which `drift`, asked of the instances decoded from them, is 0; 1 where it is
    /// already, or where none does within a factor of 2. `drift` is taken to fall as lengths grow.
    ///
    /// # Errors
    /// If the maps do not fit the decoder, or have no such head.
    pub fn factor(
        &self,
        maps: &[Prediction],
        size: (usize, usize),
        decoder: &dyn InstanceDecoder,
        drift: &dyn Fn(Vec<Labels>) -> f64,
    ) -> Result<f64> {
        let at = |growth: f64| -> Result<f64> {
            let drawn = maps
                .iter()
                .map(|maps| decoder.decode(&self.grown(maps, growth.exp())?, size));
            Ok(drift(drawn.collect::<Result<_>>()?))
        };
        let first = at(0.)?;
        if first.is_nan() || first.abs() <= TOLERANCE {
            return Ok(1.);
        }
        // At `low` lengths are too short, at `high` too long.
        let (mut low, mut high) = if first > 0. { (0., MOST) } else { (-MOST, 0.) };
        let far = if first > 0. { at(high)? } else { -at(low)? };
        if far.is_nan() || far > 0. {
            return Ok(1.);
        }
        while high - low > PRECISION {
            let middle = 0.5 * (low + high);
            if at(middle)? > 0. {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok((0.5 * (low + high)).exp())
    }

    /// Maps as they would be with lengths `factor` times as long.
    fn grown(&self, maps: &Prediction, factor: f64) -> Result<Prediction> {
        let mut maps = maps.clone();
        let head = maps.heads.get_mut(self.head).ok_or_else(|| {
            Error::Setting(format!(
                "the model names head {} as its lengths and has no such head",
                self.head
            ))
        })?;
        *head = (head.clone() * factor)?;
        Ok(maps)
    }

    /// Multiplies the weights in a set by `factor`, and with them all lengths.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn stretch(&self, params: &ParamSet, factor: f64) -> Result<()> {
        for name in self.weights {
            let var = params.get(name).ok_or_else(|| {
                Error::Weights(format!(
                    "expected the weights of lengths as {name}, found none there"
                ))
            })?;
            var.set(&(var.as_detached_tensor() * factor)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreground::fixtures::square;
    use candle_core::{Device, Tensor};

    const LENGTHS: Lengths = Lengths {
        head: 0,
        weights: &["dist"],
    };
    const SIDE: usize = 65;

    /// A disc around the middle whose radius is the map's first number.
    struct Disc;

    impl InstanceDecoder for Disc {
        fn decode(&self, maps: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
            let radius = f64::from(maps.heads[0].flatten_all()?.to_vec1::<f32>()?[0]);
            let middle = (SIDE / 2) as f64;
            let inside = |i: usize| {
                ((i / width) as f64 - middle).hypot((i % width) as f64 - middle) < radius
            };
            let pixels = (0..height * width).map(|i| u32::from(inside(i)));
            Labels::from_rows(height, width, pixels.collect())
        }
    }

    fn factor(before: f64, now: f64) -> f64 {
        let area = |instances: &[Labels]| instances[0].areas().first().map_or(0, |area| *area);
        let disc = |radius: f64| square(SIDE, |_, _| radius);
        let size = (SIDE, SIDE);
        let first = area(&[Disc.decode(&disc(before), size).unwrap()]);
        let drift = |instances: Vec<Labels>| match area(&instances) {
            0 => f64::NAN,
            now => (first as f64 / now as f64).ln(),
        };
        LENGTHS.factor(&[disc(now)], size, &Disc, &drift).unwrap()
    }

    #[test]
    fn lengths_grow_or_shrink_until_objects_have_the_size_that_they_had() {
        assert!((factor(20., 16.) - 1.25).abs() < 0.02);
        assert!((factor(16., 20.) - 0.8).abs() < 0.02);
        assert_eq!(factor(16., 16.), 1.);
    }

    #[test]
    fn what_no_factor_mends_is_left_alone() {
        assert_eq!(factor(20., 4.), 1., "too far");
        assert_eq!(factor(20., 0.), 1., "nothing to compare");
    }

    #[test]
    fn the_weights_that_are_named_are_stretched_and_no_others() {
        let numbers = || Tensor::new(&[1f32, -2.], &Device::Cpu).unwrap();
        let role = |_: &str| crate::params::Role::Weight;
        let all = [
            ("dist".to_owned(), numbers()),
            ("prob".to_owned(), numbers()),
        ];
        let params = ParamSet::new(all, role).unwrap();
        LENGTHS.stretch(&params, 1.5).unwrap();
        let of = |name: &str| params.get(name).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(of("dist"), [1.5, -3.]);
        assert_eq!(of("prob"), [1., -2.]);
        let missing = Lengths {
            weights: &["rays"],
            ..LENGTHS
        };
        let message = missing.stretch(&params, 2.).unwrap_err().to_string();
        assert!(message.contains("rays"), "{message}");
    }
}
