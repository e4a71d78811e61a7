//! A batch norm folded to an affine of each channel, and its gradient as a blend of two maps.
//!
//! Of `z = gamma (x + s - mean) / sqrt(variance + eps) + beta`, `s` being a style that is added to each channel of an
//! image, with `inv = 1 / sqrt(variance + eps)`, `n` values a channel and `dz` the gradient by `z`:
//!
//! ```text
//! dbeta = sum dz        dgamma = inv sum dz (x + s - mean)
//! dx = p dz + q x + t   p = gamma inv   q = -p inv dgamma / n   t = q (s - mean) - p dbeta / n
//! ```
//!
//! where the moments are the batch's own, and `q = t = 0` where they are given.

use candle_core::{Result, Tensor, bail};
use selfadapt_core::model::Mode;
use selfadapt_kernels::conv2d::{Affine, ChannelSums};

use super::convolve::Read;
use super::map::{Gradient, Map};
use super::placed::{Placed, PlacedTerm, Sum, blend};
use crate::layers::BatchNorm;

/// A batch norm with its statistics, on one map.
#[derive(Debug)]
pub(crate) struct Folded {
    /// `[C]`.
    scale: Vec<f32>,
    /// `[C]`, or `[B, C]` with a style.
    shift: Vec<f32>,
    /// The mean of x without style, `[C]`, to sum about.
    pub center: Vec<f32>,
    /// `[C]`.
    mean: Vec<f64>,
    /// `[C]`.
    inverse: Vec<f64>,
    /// `[B, C]`.
    style: Option<Vec<f64>>,
    /// Whether the moments are the map's own.
    own: bool,
}

/// The gradient by a batch norm's input, not yet computed: `p dz + q x + t`.
#[derive(Debug)]
pub(crate) struct Pending {
    pub dz: Placed,
    /// `[C]`.
    pub p: Vec<f32>,
    /// `[C]`, where the moments are the map's own.
    pub q: Option<Vec<f32>>,
    /// `[B, C]`.
    pub t: Vec<f32>,
    /// The sum over the pixels of each channel of each image, `[B, C]`: the gradient by the style.
    pub of_images: Vec<f64>,
    /// The sum over images and pixels, `[C]`.
    pub total: Vec<f64>,
}

impl Folded {
    /// Folds `norm` for `x`, which has its moments in train mode; that moves the running estimates. `style` is `[B, C]`.
    ///
    /// # Errors
    /// If the channels do not fit, or a batch has a single value a channel in train mode.
    pub fn new(
        norm: &BatchNorm,
        mode: Mode,
        x: &Map<Placed>,
        style: Option<Vec<f64>>,
    ) -> Result<Self> {
        let [batch, channels, ..] = x.shape;
        if norm.weight.dims() != [channels] {
            bail!(
                "batch_norm: expected {:?} channels, got a map of shape {:?}",
                norm.weight.dims(),
                x.shape
            )
        }
        let (mean, variance) = match (mode, &x.moments) {
            (Mode::Eval, _) => (wide(&norm.running_mean)?, wide(&norm.running_var)?),
            (Mode::Train, Some(of_images)) => {
                let style = |i: usize| style.as_ref().map_or(0.0, |s| s[i]);
                let of_channel = |c: usize| (0..batch).map(move |b| b * channels + c);
                let mean: Vec<f64> = (0..channels)
                    .map(|c| {
                        let means = of_channel(c).map(|i| of_images.mean[i] + style(i));
                        means.sum::<f64>() / batch as f64
                    })
                    .collect();
                let variance: Vec<f64> = (0..channels)
                    .map(|c| {
                        let parts = of_channel(c).map(|i| {
                            let off = of_images.mean[i] + style(i) - mean[c];
                            of_images.variance[i] + off * off
                        });
                        parts.sum::<f64>() / batch as f64
                    })
                    .collect();
                follow(norm, &mean, &variance, batch * x.pixels())?;
                (mean, variance)
            }
            (Mode::Train, None) => bail!("batch_norm: a map came without its moments"),
        };
        let (gamma, beta) = (norm.weight.to_vec1::<f32>()?, norm.bias.to_vec1::<f32>()?);
        let inverse: Vec<f64> = variance
            .iter()
            .map(|v| 1.0 / (v + norm.epsilon).sqrt())
            .collect();
        let scale: Vec<f64> = gamma
            .iter()
            .zip(&inverse)
            .map(|(gamma, inverse)| f64::from(*gamma) * inverse)
            .collect();
        let shift =
            |c: usize, style: f64| (f64::from(beta[c]) + (style - mean[c]) * scale[c]) as f32;
        let shift = match &style {
            None => (0..channels).map(|c| shift(c, 0.0)).collect(),
            Some(style) => (0..batch * channels)
                .map(|i| shift(i % channels, style[i]))
                .collect(),
        };
        Ok(Self {
            scale: scale.iter().map(|&v| v as f32).collect(),
            shift,
            center: mean.iter().map(|&v| v as f32).collect(),
            mean,
            inverse,
            style,
            own: mode == Mode::Train,
        })
    }

    /// What to do to x.
    pub fn affine(&self) -> Affine<'_> {
        Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }

    /// From `dz` and the sums of `dz` and `dz (x - center)`: the gradients by gamma and by beta, and by `x`.
    pub fn backward(
        &self,
        x: &Map<Placed>,
        dz: Placed,
        sums: &ChannelSums,
    ) -> (Vec<f32>, Vec<f32>, Pending) {
        let [batch, channels, ..] = x.shape;
        let pixels = x.pixels() as f64;
        let count = batch as f64 * pixels;
        let style = |i: usize| self.style.as_ref().map_or(0.0, |s| s[i]);
        let (mut gamma, mut beta) = (vec![0.0; channels], vec![0.0; channels]);
        for (i, (first, second)) in sums.first.iter().zip(&sums.second).enumerate() {
            let c = i % channels;
            let off = f64::from(self.center[c]) + style(i) - self.mean[c];
            beta[c] += first;
            gamma[c] += self.inverse[c] * (second + first * off);
        }
        let p: Vec<f64> = self.scale.iter().map(|&v| f64::from(v)).collect();
        let q: Vec<f64> = match self.own {
            true => (0..channels)
                .map(|c| -p[c] * self.inverse[c] * gamma[c] / count)
                .collect(),
            false => vec![0.0; channels],
        };
        let t: Vec<f64> = match self.own {
            true => (0..batch * channels)
                .map(|i| {
                    let c = i % channels;
                    q[c] * (style(i) - self.mean[c]) - p[c] * beta[c] / count
                })
                .collect(),
            false => vec![0.0; batch * channels],
        };
        let mean = |i: usize| x.moments.as_ref().map_or(0.0, |m| m.mean[i]);
        let of_images = (0..batch * channels)
            .map(|i| p[i % channels] * sums.first[i] + pixels * (q[i % channels] * mean(i) + t[i]))
            .collect();
        // A batch norm with its own moments takes any constant away, so what moves all of a channel has no gradient:
        // a zero, and not the rounding that Adam would make whole steps of.
        let total = match self.own {
            true => vec![0.0; channels],
            false => (0..channels).map(|c| p[c] * beta[c]).collect(),
        };
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let pending = Pending {
            dz,
            p: self.scale.clone(),
            q: self.own.then(|| narrow(&q)),
            t: narrow(&t),
            of_images,
            total,
        };
        (narrow(&gamma), narrow(&beta), pending)
    }
}

impl Pending {
    /// The gradient as a convolution reads it; `x` is the batch norm's input.
    pub fn read<'a>(&'a self, x: &'a Map<Placed>) -> Read<'a> {
        Read {
            values: &self.dz,
            affine: Some(Affine {
                scale: &self.p,
                shift: &self.t,
            }),
            second: self.along(x),
            relu: false,
        }
    }

    /// `q x`, if there is such a term.
    pub fn along<'a>(&'a self, x: &'a Map<Placed>) -> Option<PlacedTerm<'a>> {
        self.q.as_ref().map(|q| PlacedTerm {
            values: &x.values,
            scale: q,
        })
    }

    /// `p dz`.
    pub fn across(&self) -> PlacedTerm<'_> {
        PlacedTerm {
            values: &self.dz,
            scale: &self.p,
        }
    }

    /// Computes it, in the place of `dz`.
    ///
    /// # Errors
    /// If `x` is not the batch norm's input, or the device fails.
    pub fn settle(mut self, x: &Map<Placed>) -> Result<Gradient<Placed>> {
        let mut values = std::mem::replace(&mut self.dz, Placed::none());
        let terms: Vec<PlacedTerm> = self.along(x).into_iter().collect();
        let sum = Sum {
            terms: &terms,
            shift: &self.t,
        };
        blend(x.shape, Some(&self.p), sum, &mut values)?;
        Ok(Gradient {
            values,
            total: self.total,
        })
    }

    /// Adds it to another gradient of the same map.
    ///
    /// # Errors
    /// If `x` is not the batch norm's input, or the device fails.
    pub fn add_to(&self, x: &Map<Placed>, gradient: &mut Gradient<Placed>) -> Result<()> {
        let terms: Vec<PlacedTerm> = [self.across()].into_iter().chain(self.along(x)).collect();
        let sum = Sum {
            terms: &terms,
            shift: &self.t,
        };
        blend(x.shape, None, sum, &mut gradient.values)?;
        for (sum, total) in gradient.total.iter_mut().zip(&self.total) {
            *sum += total;
        }
        Ok(())
    }
}

/// Moves the running estimates towards a batch's statistics.
fn follow(norm: &BatchNorm, mean: &[f64], variance: &[f64], values: usize) -> Result<()> {
    let tensor = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        let channels = values.len();
        Tensor::from_vec(values, channels, norm.weight.device())
    };
    norm.follow(&tensor(mean)?, &tensor(variance)?, values)
}

fn wide(tensor: &Tensor) -> Result<Vec<f64>> {
    let narrow = tensor.to_vec1::<f32>()?;
    Ok(narrow.into_iter().map(f64::from).collect())
}
