//! A convolution of a rectified map, for networks without batch norm; forward and backward.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::{
    Affine, Algorithm, Epilogue, Gate, Geometry, Input, PackedFilters, Sums, slices,
};

use super::map::{Gradient, Map};
use super::with_numbers;
use crate::layers::Conv2d;

/// A convolution, and whether a ReLU goes before it: maps are kept as they leave convolutions, and rectified while the
/// next one reads them. Pooling and upsampling may come between, which a ReLU commutes with.
#[derive(Clone, Copy)]
pub(crate) struct Rectified<'a> {
    pub conv: &'a Conv2d,
    pub relu: bool,
}

impl Rectified<'_> {
    /// `conv(relu(x))`.
    ///
    /// # Errors
    /// If the channels do not fit.
    pub fn run(&self, x: &Map) -> Result<Map> {
        let geometry = self.geometry(x)?;
        let shape = [
            geometry.batch(),
            geometry.out_channels(),
            geometry.out_height(),
            geometry.out_width(),
        ];
        let mut values = Buffer::take(geometry.output_len());
        let weight = &self.conv.weight;
        let filters = with_numbers(weight, |numbers| {
            let pack = || PackedFilters::forward(&geometry, Algorithm::Auto, numbers);
            match weight.track_op() {
                // These weights move before they are used again.
                true => Ok(pack()?.into()),
                false => self.conv.filters.of(numbers, pack),
            }
        })?;
        with_numbers(&self.conv.bias, |bias| {
            let epilogue = Epilogue {
                bias: Some(bias),
                ..Epilogue::default()
            };
            filters.apply(&geometry, self.input(x), epilogue, &mut values)
        })?;
        Ok(Map {
            values,
            shape,
            moments: None,
        })
    }

    /// From the gradient of [`Rectified::run`]'s result: stores those of weight and bias.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward_parameters(
        &self,
        x: &Map,
        by_y: &Gradient,
        gradients: &mut GradStore,
    ) -> Result<()> {
        let (weight, device) = (&self.conv.weight, self.conv.weight.device());
        let geometry = self.geometry(x)?;
        let mut by_weight = vec![0.0; geometry.weight_len()];
        let gradient = Input::plain(&by_y.values);
        let input = self.input(x);
        slices::backward_weight(&geometry, Algorithm::Auto, input, gradient, &mut by_weight)?;
        gradients.insert(weight, Tensor::from_vec(by_weight, weight.shape(), device)?);
        let by_bias: Vec<f32> = by_y.total.iter().map(|&sum| sum as f32).collect();
        let channels = by_bias.len();
        gradients.insert(
            &self.conv.bias,
            Tensor::from_vec(by_bias, channels, device)?,
        );
        Ok(())
    }

    /// From the gradient of [`Rectified::run`]'s result: that by `x`, through the ReLU. `other` is a further gradient
    /// by what the ReLU gives.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward_input(
        &self,
        x: &Map,
        by_y: &Gradient,
        other: Option<&Gradient>,
    ) -> Result<Gradient> {
        let geometry = self.geometry(x)?;
        let channels = x.shape[1];
        let (ones, zeros) = (vec![1.0; channels], vec![0.0; channels]);
        let epilogue = Epilogue {
            bias: None,
            residual: other.map(|other| &*other.values),
            gate: Some(Gate {
                values: &x.values,
                affine: Affine {
                    scale: &ones,
                    shift: &zeros,
                },
                relu: self.relu,
            }),
            sums: Sums::Products { center: &zeros },
        };
        let mut values = Buffer::take(geometry.input_len());
        let sums = with_numbers(&self.conv.weight, |weight| {
            PackedFilters::backward_data(&geometry, Algorithm::Auto, weight)?.apply(
                &geometry,
                Input::plain(&by_y.values),
                epilogue,
                &mut values,
            )
        })?;
        let mut total = vec![0.0; channels];
        for (i, sum) in sums.first.iter().enumerate() {
            total[i % channels] += sum;
        }
        Ok(Gradient { values, total })
    }

    fn geometry(&self, x: &Map) -> Result<Geometry> {
        Geometry::new(x.shape, self.conv.weight.dims4()?.into(), 1)
    }

    fn input<'a>(&self, x: &'a Map) -> Input<'a> {
        Input {
            relu: self.relu,
            ..Input::plain(&x.values)
        }
    }
}
