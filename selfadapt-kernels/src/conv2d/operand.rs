//! What a convolution reads: a tensor that may be changed channel by channel while it is packed.

use super::geometry::Planes;
use candle_core::Result;

/// A tensor `[B, C, H, W]` that a convolution reads as `relu(scale * x + shift + second.scale * second)`.
///
/// The padding around it is zero after the change, as if the changed tensor had been stored and padded.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The values, contiguous `[B, C, H, W]`.
    pub values: &'a [f32],
    /// A factor and a term for each channel, such as a batch norm folded with its statistics.
    pub affine: Option<Affine<'a>>,
    /// A multiple of another tensor, such as the part of a batch norm's gradient along its input.
    pub second: Option<Term<'a>>,
    /// Whether negative values become zero, after all the above.
    pub relu: bool,
}

/// `scale * x + shift`, channel by channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[C]`, or `[B, C]` where it differs from image to image.
    pub scale: &'a [f32],
    /// `[C]`, or `[B, C]` where it differs from image to image (a style that is added to an image).
    pub shift: &'a [f32],
}

/// A tensor times a factor for each channel.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    /// The values, contiguous `[B, C, H, W]`.
    pub values: &'a [f32],
    /// `[C]`.
    pub scale: &'a [f32],
}

impl<'a> Input<'a> {
    /// The values as they are.
    pub fn plain(values: &'a [f32]) -> Self {
        Self {
            values,
            affine: None,
            second: None,
            relu: false,
        }
    }

    pub(crate) fn check(&self, planes: Planes, what: &str) -> Result<()> {
        expect_len(self.values.len(), planes.len(), what, planes)?;
        if let Some(affine) = self.affine {
            affine.check(planes, what)?;
        }
        if let Some(second) = self.second {
            expect_len(
                second.values.len(),
                planes.len(),
                "the second term of",
                planes,
            )?;
            expect_len(
                second.scale.len(),
                planes.channels,
                "the second term's factors of",
                planes,
            )?;
        }
        Ok(())
    }
}

impl Affine<'_> {
    pub(crate) fn check(&self, planes: Planes, what: &str) -> Result<()> {
        let images = planes.batch * planes.channels;
        for (name, values) in [("scale", self.scale), ("shift", self.shift)] {
            if values.len() != planes.channels && values.len() != images {
                candle_core::bail!(
                    "conv2d: expected {} or {images} values of {name} for {what} {planes:?}, got {}",
                    planes.channels,
                    values.len()
                )
            }
        }
        Ok(())
    }

    /// The factors and the terms of `count` channels from `channel` on in one image.
    #[inline(always)]
    pub(crate) fn at(
        &self,
        planes: Planes,
        image: usize,
        channel: usize,
        count: usize,
    ) -> (&[f32], &[f32]) {
        let from = |values| {
            let values: &[f32] = values;
            let of_image = if values.len() == planes.channels {
                0
            } else {
                image * planes.channels
            };
            &values[of_image + channel..of_image + channel + count]
        };
        (from(self.scale), from(self.shift))
    }
}

/// Errs unless a slice has the length that its shape calls for.
pub(crate) fn expect_len(got: usize, expected: usize, what: &str, planes: Planes) -> Result<()> {
    if got != expected {
        candle_core::bail!("conv2d: expected {expected} values for {what} {planes:?}, got {got}")
    }
    Ok(())
}
