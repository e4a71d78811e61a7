//! The layers that networks are built of, one function each, so that each can be exchanged by itself.
//!
//! All maps are `[B, C, H, W]` in f32; parameters carry PyTorch's names and shapes.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;
use selfadapt_core::model::Mode;

/// A convolution with stride 1 whose output is as large as its input.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
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
        })
    }

    /// Convolves `x`, padded by zeros.
    ///
    /// # Errors
    /// If the channels do not fit.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (outputs, _, side, _) = self.weight.dims4()?;
        let bias = self.bias.reshape((1, outputs, 1, 1))?;
        x.conv2d(&self.weight, side / 2, 1, 1, 1)?
            .broadcast_add(&bias)
    }
}

/// A matrix product plus a bias.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
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
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    momentum: f64,
    epsilon: f64,
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
        let y = match mode {
            Mode::Eval => self.scaled(x, &self.running_mean, &self.running_var)?,
            Mode::Train => {
                let mean = x.mean_keepdim((0, 2, 3))?;
                let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
                let (mean, variance) = (mean.flatten_all()?, variance.flatten_all()?);
                self.follow(
                    &mean.detach(),
                    &variance.detach(),
                    x.elem_count() / mean.elem_count(),
                )?;
                self.scaled(x, &mean, &variance)?
            }
        };
        if relu { y.relu() } else { Ok(y) }
    }

    fn scaled(&self, x: &Tensor, mean: &Tensor, variance: &Tensor) -> Result<Tensor> {
        let per_channel = (1, mean.elem_count(), 1, 1);
        let scale = (&self.weight / (variance + self.epsilon)?.sqrt()?)?;
        x.broadcast_sub(&mean.reshape(per_channel)?)?
            .broadcast_mul(&scale.reshape(per_channel)?)?
            .broadcast_add(&self.bias.reshape(per_channel)?)
    }

    /// Moves the running estimates towards a batch's statistics, in the storage that was lent.
    fn follow(&self, mean: &Tensor, variance: &Tensor, values: usize) -> Result<()> {
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
    let (batch, channels, height, width) = x.dims4()?;
    if height % 2 + width % 2 != 0 {
        bail!("max_pool_2x2: expected an even height and width, found {height} x {width}");
    }
    // candle's own max_pool2d has a wrong gradient.
    x.reshape((batch, channels, height / 2, 2, width / 2, 2))?
        .max(5)?
        .max(3)
}

/// Repeats each pixel in a 2 x 2 block.
///
/// # Errors
/// If `x` has not four axes.
pub fn upsample_2x(x: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    // candle's own upsample_nearest2d overwrites gradients instead of adding to them.
    x.reshape((batch, channels, height, 1, width, 1))?
        .broadcast_as((batch, channels, height, 2, width, 2))?
        .reshape((batch, channels, height * 2, width * 2))
}
