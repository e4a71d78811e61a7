//! Maps `[B, C, H, W]` in pooled memory, with what batch norms want to know of them.

use candle_core::{Result, Tensor};
use selfadapt_kernels::batch_norm::moments;
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::ChannelSums;
use selfadapt_kernels::max_pool::{self, Window};
use selfadapt_kernels::upsample::nearest_2x_forward;

use super::with_numbers;

/// Mean and biased variance over the pixels of each channel of each image, both `[B, C]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageMoments {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
}

/// A map of a network.
#[derive(Debug)]
pub(crate) struct Map {
    pub values: Buffer,
    /// `[B, C, H, W]`.
    pub shape: [usize; 4],
    /// Where they were asked for.
    pub moments: Option<ImageMoments>,
}

/// The gradient of a map.
#[derive(Debug)]
pub(crate) struct Gradient {
    /// `[B, C, H, W]`.
    pub values: Buffer,
    /// The sum over images and pixels, `[C]`: the gradient of a bias that was added to the map.
    pub total: Vec<f64>,
}

impl ImageMoments {
    /// From the sums of `v - center` and `(v - center)^2` over `pixels`.
    pub fn of_sums(sums: &ChannelSums, center: &[f32], pixels: usize) -> Self {
        let (n, channels) = (pixels as f64, center.len().max(1));
        let parts = sums.first.iter().zip(&sums.second).enumerate();
        let (mean, variance) = parts
            .map(|(i, (first, second))| {
                let off = first / n;
                let variance = (second / n - off * off).max(0.0);
                (f64::from(center[i % channels]) + off, variance)
            })
            .unzip();
        Self { mean, variance }
    }

    fn of_values(values: &[f32], [batch, channels, height, width]: [usize; 4]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        // Each plane is a channel of its own.
        let taken = moments(values, batch * channels, height * width);
        Self {
            mean: taken.mean,
            variance: taken.variance,
        }
    }
}

impl Map {
    /// Copies a tensor `[B, C, H, W]`; takes its moments if `measured`.
    ///
    /// # Errors
    /// If the tensor has other axes, or is not `f32` on the CPU.
    pub fn of_tensor(tensor: &Tensor, measured: bool) -> Result<Self> {
        let (b, c, h, w) = tensor.dims4()?;
        let shape = [b, c, h, w];
        let values = with_numbers(&tensor.contiguous()?, |numbers| {
            Ok(Buffer::copy_of(numbers))
        })?;
        let moments = measured.then(|| ImageMoments::of_values(&values, shape));
        Ok(Self {
            values,
            shape,
            moments,
        })
    }

    /// Pixels of a plane.
    pub fn pixels(&self) -> usize {
        self.shape[2] * self.shape[3]
    }

    /// The largest of each 2 x 2 block; the sides are even.
    pub fn pooled(&self, measured: bool) -> Self {
        let [batch, channels, height, width] = self.shape;
        let shape = [batch, channels, height / 2, width / 2];
        let mut values = Buffer::take(shape.iter().product());
        if !values.is_empty() {
            let window = Window {
                height,
                width,
                kernel: 2,
                stride: 2,
            };
            max_pool::forward(&self.values, window, &mut values);
        }
        let moments = measured.then(|| ImageMoments::of_values(&values, shape));
        Self {
            values,
            shape,
            moments,
        }
    }

    /// Each pixel in a 2 x 2 block, which leaves moments as they are.
    pub fn doubled(&self) -> Self {
        let [batch, channels, height, width] = self.shape;
        let mut values = Buffer::take(4 * self.values.len());
        nearest_2x_forward(&self.values, height, width, &mut values);
        Self {
            values,
            shape: [batch, channels, 2 * height, 2 * width],
            moments: self.moments.clone(),
        }
    }
}
