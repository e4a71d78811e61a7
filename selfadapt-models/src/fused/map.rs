//! Maps `[B, C, H, W]` in pooled memory, with what batch norms want to know of them.

use candle_core::{Result, Tensor};
use selfadapt_kernels::batch_norm::moments;
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::ChannelSums;
use selfadapt_kernels::max_pool::{self, Window};

use super::with_numbers;

/// Mean and biased variance over the pixels of each channel of each image, both `[B, C]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageMoments {
    pub mean: Vec<f64>,
    pub variance: Vec<f64>,
}

/// A map of a network; its numbers are on the CPU or, [`super::Placed`], on whatever device.
#[derive(Debug)]
pub(crate) struct Map<V = Buffer> {
    pub values: V,
    /// `[B, C, H, W]`.
    pub shape: [usize; 4],
    /// Where they were asked for.
    pub moments: Option<ImageMoments>,
}

/// The gradient of a map.
#[derive(Debug)]
pub(crate) struct Gradient<V = Buffer> {
    /// `[B, C, H, W]`.
    pub values: V,
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

    pub fn of_values(values: &[f32], [batch, channels, height, width]: [usize; 4]) -> Self {
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

impl<V> Map<V> {
    /// Pixels of a plane.
    pub fn pixels(&self) -> usize {
        self.shape[2] * self.shape[3]
    }
}

impl Map {
    /// Copies a tensor `[B, C, H, W]`.
    ///
    /// # Errors
    /// If the tensor has other axes, or is not `f32` on the CPU.
    pub fn of_tensor(tensor: &Tensor) -> Result<Self> {
        let (b, c, h, w) = tensor.dims4()?;
        let values = with_numbers(&tensor.contiguous()?, |numbers| {
            Ok(Buffer::copy_of(numbers))
        })?;
        Ok(Self {
            values,
            shape: [b, c, h, w],
            moments: None,
        })
    }

    /// The largest of each 2 x 2 block; the sides are even.
    pub fn pooled(&self) -> Self {
        Self {
            values: pool(&self.values, self.shape),
            shape: halved(self.shape),
            moments: None,
        }
    }
}

/// The shape of a map `[B, C, H, W]` after pooling.
pub(super) fn halved([batch, channels, height, width]: [usize; 4]) -> [usize; 4] {
    [batch, channels, height / 2, width / 2]
}

/// A pooling's window.
pub(super) fn window([_, _, height, width]: [usize; 4]) -> Window {
    Window {
        height,
        width,
        kernel: 2,
        stride: 2,
    }
}

/// The largest of each 2 x 2 block of a map; its sides are even.
pub(super) fn pool(values: &[f32], shape: [usize; 4]) -> Buffer {
    let mut pooled = Buffer::take(values.len() / 4);
    if !pooled.is_empty() {
        max_pool::forward(values, window(shape), &mut pooled);
    }
    pooled
}
