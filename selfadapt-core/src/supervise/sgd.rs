//! Stochastic gradient descent with momentum.
//!
//! With data gradient d and rate r:
//!
//! ```text
//! g = d + weight_decay w        b <- momentum b + g  (b = g at a weight's first step)        w <- w - r b
//! ```
//!
//! as `torch.optim.SGD` without dampening and without Nesterov's look ahead.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::Result;

/// The direction that every weight moves in, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Sgd {
    pub directions: BTreeMap<String, Tensor>,
}

/// What one step is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    /// Learning rate of this step.
    pub rate: f64,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Share of the earlier direction that stays.
    pub momentum: f64,
}

impl Sgd {
    /// Moves weights, each given with its name and gradient, in place.
    pub fn step(&mut self, moving: &[(&str, &Var, &Tensor)], settings: &Settings) -> Result<()> {
        for (name, weight, gradient) in moving {
            let value = weight.as_detached_tensor();
            let gradient = (gradient.detach() + (&value * settings.weight_decay)?)?;
            let direction = match self.directions.get(*name) {
                Some(before) => ((before * settings.momentum)? + gradient)?,
                None => gradient,
            };
            weight.set(&(&value - (&direction * settings.rate)?)?)?;
            self.directions.insert((*name).to_owned(), direction);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn steps_are_those_of_torch() {
        // torch.optim.SGD([w], lr=.1, momentum=.9, weight_decay=.01) on w = [1., -2.], two steps with these gradients.
        let tensor = |values: &[f32; 2]| Tensor::new(values, &Device::Cpu).unwrap();
        let weight = Var::from_tensor(&tensor(&[1., -2.])).unwrap();
        let mut sgd = Sgd::default();
        let settings = Settings {
            rate: 0.1,
            weight_decay: 0.01,
            momentum: 0.9,
        };
        let expected = [[0.949, -2.098], [1.002_151, -2.184_102]];
        for (gradient, expected) in [[0.5, 1.], [-1., 0.]].iter().zip(expected) {
            let gradient = tensor(gradient);
            sgd.step(&[("w", &weight, &gradient)], &settings).unwrap();
            let found = weight.to_vec1::<f32>().unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{found} {expected}");
            }
        }
    }
}
