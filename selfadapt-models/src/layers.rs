//! The layers that networks are built of, one function each, so that each can be exchanged by itself.
//!
//! All maps are `[B, C, H, W]` in f32; parameters carry PyTorch's names and shapes.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use selfadapt_core::model::Mode;
use selfadapt_kernels::batch_norm::{batch_norm_eval, batch_norm_train};
use selfadapt_kernels::conv2d::{Algorithm, conv2d};
use selfadapt_kernels::max_pool::max_pool2d;
use selfadapt_kernels::upsample::nearest_2x;

use crate::fused::FilterCache;
#[cfg(feature = "cuda")]
use crate::fused::FiltersOnGpu;

/// A convolution with stride 1 whose output is as large as its input.
#[derive(Clone, Debug)]
pub struct Conv2d {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    /// How it is computed on the CPU where the network runs without a graph.
    pub(crate) algorithm: Algorithm,
    /// Its filters there.
    pub(crate) filters: FilterCache,
    /// The same where it runs on a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) on_gpu: FiltersOnGpu,
}

impl Conv2d {
    /// Asks for `weight` `[out, in, side, side]` and `bias` `[out]`; `side` is odd.
    ///
    /// # Errors
    /// If one of them is missing or misshaped.
    pub fn load(inputs: usize, outputs: usize, side: usize, weights: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: weights.get((outputs, inputs, side, side), "weight")?,
            bias: weights.get(outputs, "bias")?,
            algorithm: Algorithm::Auto,
            filters: FilterCache::default(),
            #[cfg(feature = "cuda")]
            on_gpu: FiltersOnGpu::default(),
        })
    }

    /// Convolves `x`, padded by zeros.
    ///
    /// # Errors
    /// If the channels do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, Some(&self.bias), 1, Algorithm::Auto)
    }
}

/// A matrix product plus a bias.
#[derive(Clone, Debug)]
pub struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Linear {
    /// Asks for `weight` `[out, in]` and `bias` `[out]`.
    ///
    /// # Errors
    /// If one of them is missing or misshaped.
    pub fn load(inputs: usize, outputs: usize, weights: &VarBuilder) -> Result<Self> {
        Ok(Self {
            weight: weights.get((outputs, inputs), "weight")?,
            bias: weights.get(outputs, "bias")?,
        })
    }

    /// Maps `[B, in]` to `[B, out]`.
    ///
    /// # Errors
    /// If the features do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)
    }
}

/// Batch normalisation per channel, with PyTorch's running estimates.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) running_mean: Tensor,
    pub(crate) running_var: Tensor,
    num_batches_tracked: Tensor,
    momentum: f64,
    pub(crate) epsilon: f64,
}

impl BatchNorm {
    /// Asks for the five tensors that PyTorch's `BatchNorm2d` stores.
    ///
    /// `momentum` is the share of the newest batch in the running estimates.
    ///
    /// # Errors
    /// If one of them is missing or misshaped.
    pub fn load(
        channels: usize,
        momentum: f64,
        epsilon: f64,
        weights: &VarBuilder,
    ) -> Result<Self> {
        Ok(Self {
            weight: weights.get(channels, "weight")?,
            bias: weights.get(channels, "bias")?,
            // Statistics are counted, not learned: no gradient flows to them.
            running_mean: weights.get(channels, "running_mean")?.detach(),
            running_var: weights.get(channels, "running_var")?.detach(),
            num_batches_tracked: weights.get((), "num_batches_tracked")?.detach(),
            momentum,
            epsilon,
        })
    }

    /// Normalises `x`, by the batch's own statistics or the running ones, and clips below zero if `relu`.
    ///
    /// # Errors
    /// If the channels do not fit, or a batch has a single value a channel in train mode.
    pub fn apply(&self, x: &Tensor, mode: Mode, relu: bool) -> Result<Tensor> {
        let (weight, bias, epsilon) = (&self.weight, &self.bias, self.epsilon);
        match mode {
            Mode::Eval => {
                let (mean, variance) = (&self.running_mean, &self.running_var);
                batch_norm_eval(x, weight, bias, mean, variance, epsilon, relu)
            }
            Mode::Train => {
                let normed = batch_norm_train(x, weight, bias, epsilon, relu)?;
                let values = x.elem_count() / normed.mean.elem_count();
                self.follow(&normed.mean, &normed.variance, values)?;
                Ok(normed.y)
            }
        }
    }

    /// A copy of the running estimates.
    pub(crate) fn counted(&self) -> Result<[Tensor; 3]> {
        let counted = [
            &self.running_mean,
            &self.running_var,
            &self.num_batches_tracked,
        ];
        let [mean, var, count] = counted.map(Tensor::copy);
        Ok([mean?, var?, count?])
    }

    /// Puts a copy of the running estimates back, in the storage that was lent.
    pub(crate) fn recount(&self, [mean, var, count]: &[Tensor; 3]) -> Result<()> {
        self.running_mean.slice_set(mean, 0, 0)?;
        self.running_var.slice_set(var, 0, 0)?;
        let tracked = self.num_batches_tracked.reshape(1)?;
        tracked.slice_set(&count.reshape(1)?, 0, 0)
    }

    /// Moves the running estimates towards a batch's statistics, in the storage that was lent.
    pub(crate) fn follow(&self, mean: &Tensor, variance: &Tensor, values: usize) -> Result<()> {
        if values < 2 {
            bail!("batch_norm: expected at least 2 values a channel in train mode, found {values}");
        }
        let blend = |old: &Tensor, new: &Tensor, gain: f64| {
            let moved = ((old * (1. - self.momentum))? + (new * (self.momentum * gain))?)?;
            // Writing into the storage keeps teacher, student and checkpoint on the same numbers,
            // whether the loan is tracked or detached.
            old.slice_set(&moved, 0, 0)
        };
        let unbiased = values as f64 / (values - 1) as f64;
        blend(&self.running_mean, mean, 1.)?;
        blend(&self.running_var, variance, unbiased)?;
        let count = self.num_batches_tracked.reshape(1)?;
        count.slice_set(&(&count + 1.)?, 0, 0)
    }
}

/// The largest of each 2 x 2 block; H and W are even.
///
/// # Errors
/// If H or W is odd.
pub fn max_pool_2x2(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    if height % 2 + width % 2 != 0 {
        bail!("max_pool_2x2: expected an even height and width, found {height} x {width}");
    }
    max_pool2d(x, 2, 2)
}

/// Repeats each pixel in a 2 x 2 block.
///
/// # Errors
/// If `x` has not four axes.
pub fn upsample_2x(x: &Tensor) -> Result<Tensor> {
    nearest_2x(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Var};
    use selfadapt_core::params::{Lend, ParamSet, Role};
    use std::collections::HashMap;

    /// Numbers in (-1, 1) that follow no pattern a layer could use.
    fn noise(seed: u64, shape: &[usize]) -> Tensor {
        let numbers: Vec<f64> = (0..shape.iter().product::<usize>() as u64)
            .map(|i| ((i + 1) * (seed * 2 + 12345) * 2_654_435_761 % 20011) as f64 / 10005.5 - 1.)
            .collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    /// Compares gradients by the input and by each parameter with central differences.
    ///
    /// `layer` is built anew from the parameters each time, which also resets running statistics.
    fn check(
        input: &[usize],
        parameters: &[(&str, &[usize])],
        layer: impl Fn(&VarBuilder, &Tensor) -> Result<Tensor>,
    ) {
        let mut vars: Vec<(String, Var)> = parameters
            .iter()
            .zip(1..)
            .map(|((name, shape), seed)| {
                (
                    name.to_string(),
                    Var::from_tensor(&noise(seed, shape)).unwrap(),
                )
            })
            .collect();
        vars.push(("x".to_owned(), Var::from_tensor(&noise(77, input)).unwrap()));
        let run = |vars: &[(String, Var)]| {
            let mut tensors: HashMap<String, Tensor> = vars
                .iter()
                .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
                .collect();
            let x = tensors.remove("x").unwrap();
            let statistics = |value: f64| Tensor::full(value, input[1], &Device::Cpu).unwrap();
            tensors.insert("running_mean".into(), statistics(0.1));
            tensors.insert("running_var".into(), statistics(0.7));
            tensors.insert(
                "num_batches_tracked".into(),
                Tensor::new(3i64, &Device::Cpu).unwrap(),
            );
            let weights = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
            let y = layer(&weights, &x).unwrap();
            (&y * noise(99, y.dims())).unwrap().sum_all().unwrap()
        };
        let gradients = run(&vars).backward().unwrap();
        let step = 1e-5;
        for (name, var) in &vars {
            let gradient = gradients
                .get(var)
                .unwrap_or_else(|| panic!("{name}: no gradient"));
            let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let old = var.copy().unwrap();
            let values = old.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            // Every fifth number is enough, and none of the small tensors is skipped.
            for at in (0..values.len()).step_by(if values.len() > 20 { 5 } else { 1 }) {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[at] += by;
                    var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap())
                        .unwrap();
                    run(&vars).to_scalar::<f64>().unwrap()
                };
                let expected = (moved(step) - moved(-step)) / (2. * step);
                let difference = (gradient[at] - expected).abs();
                assert!(
                    difference < 1e-5 * (1. + expected.abs()),
                    "{name}[{at}]: {} for {expected}",
                    gradient[at]
                );
            }
            var.set(&old).unwrap();
        }
    }

    #[test]
    fn gradients_of_every_layer_agree_with_finite_differences() {
        for side in [1, 3] {
            check(
                &[2, 3, 6, 4],
                &[("weight", &[2, 3, side, side]), ("bias", &[2])],
                |weights, x| Conv2d::load(3, 2, side, weights)?.apply(x),
            );
        }
        check(
            &[2, 3],
            &[("weight", &[4, 3]), ("bias", &[4])],
            |weights, x| Linear::load(3, 4, weights)?.apply(x),
        );
        for mode in [Mode::Eval, Mode::Train] {
            for relu in [false, true] {
                check(
                    &[2, 3, 4, 6],
                    &[("weight", &[3]), ("bias", &[3])],
                    |weights, x| BatchNorm::load(3, 0.05, 1e-5, weights)?.apply(x, mode, relu),
                );
            }
        }
        check(&[2, 3, 4, 6], &[], |_, x| max_pool_2x2(x));
        // A second consumer, which candle's own upsampling gets wrong.
        check(&[2, 3, 2, 2], &[], |_, x| {
            upsample_2x(x)? + upsample_2x(&x.sqr()?)?
        });
    }

    #[test]
    fn running_statistics_move_in_the_storage_that_was_lent() {
        let numbers = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let tensors = [
            ("weight", numbers(&[1.])),
            ("bias", numbers(&[0.])),
            ("running_mean", numbers(&[2.])),
            ("running_var", numbers(&[4.])),
            (
                "num_batches_tracked",
                Tensor::new(7i64, &Device::Cpu).unwrap(),
            ),
        ];
        let named = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        let x = numbers(&[1., 3., 5., 7.]).reshape((2, 1, 1, 2)).unwrap();
        for lend in [Lend::Tracked, Lend::Detached] {
            let params = ParamSet::new(named.clone(), |_| Role::Weight).unwrap();
            let norm = params
                .lend(lend, |weights| {
                    Ok(BatchNorm::load(1, 0.05, 1e-5, &weights)?)
                })
                .unwrap();
            let at = |name: &str| params.get(name).unwrap().to_vec1::<f32>().unwrap()[0];
            let count = || {
                params
                    .get("num_batches_tracked")
                    .unwrap()
                    .to_scalar::<i64>()
                    .unwrap()
            };
            norm.apply(&x, Mode::Eval, false).unwrap();
            assert_eq!(
                (at("running_mean"), at("running_var"), count()),
                (2., 4., 7)
            );
            norm.apply(&x, Mode::Train, false).unwrap();
            // Mean 4; variance 5 of the batch, 20 / 3 without bias.
            assert!((at("running_mean") - (0.95 * 2. + 0.05 * 4.)).abs() < 1e-6);
            assert!((at("running_var") - (0.95 * 4. + 0.05 * 20. / 3.)).abs() < 1e-6);
            assert_eq!(count(), 8);
            let single = numbers(&[1.]).reshape((1, 1, 1, 1)).unwrap();
            assert!(norm.apply(&single, Mode::Train, false).is_err());
        }
    }
}
