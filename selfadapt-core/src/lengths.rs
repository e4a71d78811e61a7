//! Lengths that a model predicts: the weights that all of them are proportional to, by which the size of objects is held where it
//! regresses their borders.

use crate::error::{Error, Result};
use crate::maps::Prediction;
use crate::params::ParamSet;

/// A head of lengths, and the weights, of a last linear layer and its bias, that all of them are proportional to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// The head whose maps are the lengths, among `SegmentationModel::heads`.
    pub head: usize,
    /// Names of the weights.
    pub weights: &'static [&'static str],
}

impl Lengths {
    /// Maps as they would be with lengths `factor` times as long.
    ///
    /// # Errors
    /// If the maps have no such head.
    pub(crate) fn grown(&self, maps: &Prediction, factor: f64) -> Result<Prediction> {
        Ok(maps.with(self.head, (maps.head(self.head, "lengths")? * factor)?))
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
    use candle_core::{Device, Tensor};

    const LENGTHS: Lengths = Lengths {
        head: 0,
        weights: &["dist"],
    };

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
