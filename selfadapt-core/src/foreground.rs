//! The foreground of a model: the logits by which it tells objects from background, and the bias that they share.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::maps::Prediction;
use crate::params::ParamSet;

/// The number that all logits of a foreground share, and that so decides how large objects are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreground {
    /// The head whose single map holds the logits, among `SegmentationModel::heads`.
    pub head: usize,
    /// Name of the weight, of one axis, that holds the bias.
    pub bias: &'static str,
    /// Which of its numbers that is.
    pub index: usize,
}

impl Foreground {
    /// Maps as they would be with the bias lowered by `fall`.
    ///
    /// # Errors
    /// If the maps have no such head.
    pub(crate) fn lowered(&self, maps: &Prediction, fall: f64) -> Result<Prediction> {
        Ok(maps.with(self.head, (self.logits(maps)? - fall)?))
    }

    /// The map of logits.
    ///
    /// # Errors
    /// If the maps have no such head.
    pub(crate) fn logits<'a>(&self, maps: &'a Prediction) -> Result<&'a Tensor> {
        maps.head(self.head, "foreground")
    }

    /// Lowers the bias in a set of weights by `fall`.
    ///
    /// # Errors
    /// If there is no weight of that name, or a shorter one.
    pub fn lower(&self, params: &ParamSet, fall: f64) -> Result<()> {
        let missing = || {
            Error::Weights(format!(
                "expected the foreground's bias at {}[{}], found none there",
                self.bias, self.index
            ))
        };
        let bias = params.get(self.bias).ok_or_else(missing)?;
        let mut values = bias.as_detached_tensor().to_vec1::<f32>()?;
        *values.get_mut(self.index).ok_or_else(missing)? -= fall as f32;
        let length = values.len();
        bias.set(&Tensor::from_vec(values, length, bias.device())?)?;
        Ok(())
    }
}

/// A foreground and its decoder, for the tests of what is done with them.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use crate::labels::Labels;
    use crate::model::InstanceDecoder;
    use candle_core::Device;

    pub const FOREGROUND: Foreground = Foreground {
        head: 0,
        bias: "bias",
        index: 1,
    };

    /// All pixels whose logit is above 0: those of the left half are one object, those of the right another.
    pub struct Above;

    impl InstanceDecoder for Above {
        fn decode(&self, maps: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
            let logits = maps.heads[0].flatten_all()?.to_vec1::<f32>()?;
            let half = |i: usize| 1 + u32::from(i % width >= width / 2);
            let pixels = logits.iter().enumerate();
            let pixels = pixels.map(|(i, &z)| if z > 0. { half(i) } else { 0 });
            Labels::from_rows(height, width, pixels.collect())
        }
    }

    /// Maps whose only head is a square of these logits, row by row.
    pub fn square(side: usize, logits: impl Fn(usize, usize) -> f64) -> Prediction {
        let all = (0..side * side).map(|i| logits(i / side, i % side) as f32);
        let map = Tensor::from_iter(all, &Device::Cpu).unwrap();
        let map = map.reshape((1, 1, side, side)).unwrap();
        Prediction {
            embedding: map.clone(),
            heads: vec![map],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::FOREGROUND;
    use super::*;
    use candle_core::Device;

    #[test]
    fn only_the_bias_that_is_named_is_lowered() {
        let bias = Tensor::new(&[1f32, 2., 3.], &Device::Cpu).unwrap();
        let role = |_: &str| crate::params::Role::Weight;
        let params = ParamSet::new([("bias".to_owned(), bias)], role).unwrap();
        FOREGROUND.lower(&params, 0.5).unwrap();
        let values = params.get("bias").unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, [1., 1.5, 3.]);
        for wrong in [
            Foreground {
                bias: "b",
                ..FOREGROUND
            },
            Foreground {
                index: 3,
                ..FOREGROUND
            },
        ] {
            let message = wrong.lower(&params, 0.5).unwrap_err().to_string();
            assert!(message.contains("found none there"), "{message}");
        }
    }
}
