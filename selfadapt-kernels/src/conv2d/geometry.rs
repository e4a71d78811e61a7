//! The sizes of one convolution, checked once so that every kernel can rely on them.

use candle_core::Result;

/// Sizes of a two-dimensional convolution with an odd square kernel and "same" padding `kernel / 2`.
///
/// Input `[batch, in_channels, height, width]`, weight `[out_channels, in_channels, kernel, kernel]`,
/// output `[batch, out_channels, out_height, out_width]`, all contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    batch: usize,
    in_channels: usize,
    out_channels: usize,
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
}

impl Geometry {
    /// Checks and keeps the sizes of an input, a weight and a stride.
    ///
    /// `input` is `[batch, in_channels, height, width]`, `weight` is
    /// `[out_channels, in_channels, kernel, kernel]`.
    ///
    /// # Errors
    /// When the channels disagree, the kernel is not square or not odd, the stride is zero, or a tensor
    /// would not fit into memory.
    pub fn new(input: [usize; 4], weight: [usize; 4], stride: usize) -> Result<Self> {
        let [batch, in_channels, height, width] = input;
        let [out_channels, weight_in, kernel, kernel_width] = weight;
        if weight_in != in_channels {
            candle_core::bail!(
                "conv2d: expected a weight [Co, {in_channels}, k, k] for the input {input:?}, got {weight:?}"
            )
        }
        if kernel != kernel_width || kernel % 2 == 0 {
            candle_core::bail!("conv2d: expected a square kernel of odd size, got {weight:?}")
        }
        if stride == 0 {
            candle_core::bail!("conv2d: expected a stride of 1 or more, got 0")
        }
        let geometry = Self {
            batch,
            in_channels,
            out_channels,
            height,
            width,
            kernel,
            stride,
        };
        let fits = |sizes: [usize; 4]| {
            sizes
                .iter()
                .try_fold(4_usize, |product, &size| product.checked_mul(size.max(1)))
                .is_some_and(|bytes| bytes <= isize::MAX as usize)
        };
        let output = [
            batch,
            out_channels,
            geometry.out_height(),
            geometry.out_width(),
        ];
        if ![input, weight, output].into_iter().all(fits) {
            candle_core::bail!(
                "conv2d: expected tensors that fit into memory, got the input {input:?} and the weight {weight:?}"
            )
        }
        Ok(geometry)
    }

    /// Images in the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Channels of the input.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// Rows of the input, pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns of the input, pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Side of the kernel, pixels.
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// Input pixels from one output pixel to the next, in both directions.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Zero pixels added on each side of the input.
    pub fn padding(&self) -> usize {
        self.kernel / 2
    }

    /// Rows of the output, pixels.
    pub fn out_height(&self) -> usize {
        self.height.div_ceil(self.stride)
    }

    /// Columns of the output, pixels.
    pub fn out_width(&self) -> usize {
        self.width.div_ceil(self.stride)
    }

    /// Values of the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.in_channels * self.height * self.width
    }

    /// Values of the weight.
    pub fn weight_len(&self) -> usize {
        self.out_channels * self.in_channels * self.kernel * self.kernel
    }

    /// Values of the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.out_channels * self.out_height() * self.out_width()
    }

    pub(crate) fn input_planes(&self) -> Planes {
        Planes {
            batch: self.batch,
            channels: self.in_channels,
            height: self.height,
            width: self.width,
        }
    }

    pub(crate) fn output_planes(&self) -> Planes {
        Planes {
            batch: self.batch,
            channels: self.out_channels,
            height: self.out_height(),
            width: self.out_width(),
        }
    }
}

/// The shape of a contiguous tensor `[batch, channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planes {
    pub batch: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
}

impl Planes {
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    pub fn len(&self) -> usize {
        self.batch * self.channels * self.plane()
    }

    /// Where row `y` of channel `channel` of image `image` begins.
    pub fn row(&self, image: usize, channel: usize, y: usize) -> usize {
        ((image * self.channels + channel) * self.height + y) * self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_same_padding_covers_every_stride() {
        for (width, stride, expected) in
            [(17, 1, 17), (17, 2, 9), (16, 2, 8), (1, 2, 1), (225, 3, 75)]
        {
            for kernel in [1, 3, 7] {
                let geometry =
                    Geometry::new([2, 3, 5, width], [4, 3, kernel, kernel], stride).unwrap();
                let formula = (width + 2 * (kernel / 2) - kernel) / stride + 1;
                assert_eq!(geometry.out_width(), expected);
                assert_eq!(geometry.out_width(), formula);
            }
        }
    }

    #[test]
    fn impossible_sizes_are_refused_with_both_shapes() {
        let message = |input, weight, stride| {
            Geometry::new(input, weight, stride)
                .unwrap_err()
                .to_string()
        };
        let text = message([1, 3, 4, 4], [8, 2, 3, 3], 1);
        assert!(
            text.contains("conv2d")
                && text.contains("[Co, 3, k, k]")
                && text.contains("[8, 2, 3, 3]"),
            "{text}"
        );
        assert!(message([1, 2, 4, 4], [8, 2, 2, 2], 1).contains("odd"));
        assert!(message([1, 2, 4, 4], [8, 2, 3, 5], 1).contains("square"));
        assert!(message([1, 2, 4, 4], [8, 2, 3, 3], 0).contains("stride"));
        assert!(message([1, 2, usize::MAX / 2, 4], [8, 2, 3, 3], 1).contains("memory"));
    }
}
