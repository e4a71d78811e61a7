//! One block: batch norm, ReLU (or none), convolution, a residual; forward and backward.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use selfadapt_core::model::Mode;
use selfadapt_kernels::conv2d::{Geometry, Sums};

use super::convolve::{Finish, PlacedGate, Read, backward_data, backward_weight, forward};
use super::map::{ImageMoments, Map};
use super::norm::{Folded, Pending};
use super::placed::Placed;
use super::with_numbers;
use crate::layers::{BatchNorm, Conv2d};

/// A block's layers.
#[derive(Clone, Copy)]
pub(crate) struct Fused<'a> {
    pub norm: &'a BatchNorm,
    pub relu: bool,
    pub conv: &'a Conv2d,
}

impl Fused<'_> {
    /// `conv(relu(norm(x + style))) + residual`. With a `center` `[Co]` near the result's means, the result has its
    /// moments. `style` is `[B, Ci]`.
    ///
    /// # Errors
    /// If the shapes do not fit, or a batch has a single value a channel in train mode.
    pub fn run(
        &self,
        x: &Map<Placed>,
        mode: Mode,
        style: Option<Vec<f64>>,
        residual: Option<&Map<Placed>>,
        center: Option<&[f32]>,
    ) -> Result<(Map<Placed>, Folded)> {
        let norm = Folded::new(self.norm, mode, x, style)?;
        let geometry = self.geometry(x)?;
        let shape = [
            geometry.batch(),
            geometry.out_channels(),
            geometry.out_height(),
            geometry.out_width(),
        ];
        let (values, sums) = with_numbers(&self.conv.bias, |bias| {
            let finish = Finish {
                bias: Some(bias),
                residual: residual.map(|map| &map.values),
                gate: None,
                sums: center.map_or(Sums::None, |center| Sums::Moments { center }),
            };
            forward(self.conv, &geometry, self.read(x, &norm), finish)
        })?;
        let pixels = shape[2] * shape[3];
        let moments = center.map(|center| ImageMoments::of_sums(&sums, center, pixels));
        let result = Map {
            values,
            shape,
            moments,
        };
        Ok((result, norm))
    }

    /// From the gradient of [`Fused::run`]'s result, as read through `gradient` and with its sum over images and
    /// pixels `total` `[Co]`: stores those of the four parameters and returns that by `x` (and by the style).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward(
        &self,
        x: &Map<Placed>,
        norm: &Folded,
        gradient: Read,
        total: &[f64],
        gradients: &mut GradStore,
    ) -> Result<Pending> {
        let geometry = self.geometry(x)?;
        let device = self.conv.weight.device();
        let by_weight = backward_weight(&geometry, self.read(x, norm), gradient)?;
        let by_weight = Tensor::from_vec(by_weight, self.conv.weight.shape(), device)?;
        gradients.insert(&self.conv.weight, by_weight);
        let by_bias: Vec<f32> = total.iter().map(|&sum| sum as f32).collect();
        gradients.insert(
            &self.conv.bias,
            Tensor::from_vec(by_bias, total.len(), device)?,
        );

        let finish = Finish {
            gate: Some(PlacedGate {
                values: &x.values,
                affine: norm.affine(),
                relu: self.relu,
            }),
            sums: Sums::Products {
                center: &norm.center,
            },
            ..Finish::default()
        };
        let (dz, sums) = backward_data(self.conv, &geometry, gradient, finish)?;
        let (by_gamma, by_beta, pending) = norm.backward(x, dz, &sums);
        for (parameter, gradient) in [(&self.norm.weight, by_gamma), (&self.norm.bias, by_beta)] {
            let gradient = Tensor::from_vec(gradient, parameter.shape(), device)?;
            gradients.insert(parameter, gradient);
        }
        Ok(pending)
    }

    fn geometry(&self, x: &Map<Placed>) -> Result<Geometry> {
        Geometry::new(x.shape, self.conv.weight.dims4()?.into(), 1)
    }

    fn read<'a>(&self, x: &'a Map<Placed>, norm: &'a Folded) -> Read<'a> {
        Read {
            values: &x.values,
            affine: Some(norm.affine()),
            second: None,
            relu: self.relu,
        }
    }
}
