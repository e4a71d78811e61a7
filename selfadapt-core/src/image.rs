//! A microscopy image in memory: channels, rows, columns.

use ndarray::{Array3, ArrayView3};
use serde::Serialize;

use crate::error::{Error, Result};

/// How pixels were stored in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelType {
    /// Unsigned integers of 8 bits.
    U8,
    /// Unsigned integers of 16 bits.
    U16,
    /// Unsigned integers of 32 bits.
    U32,
    /// Signed integers of 8 to 64 bits.
    Signed,
    /// Floating point numbers of 16 to 64 bits.
    Float,
}

/// A two-dimensional image with one or more channels, `[C, H, W]`, as 32-bit floats in file units.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pixels: Array3<f32>,
    stored_as: PixelType,
}

impl Image {
    /// Wraps pixels `[C, H, W]`.
    ///
    /// # Errors
    /// If there is no pixel.
    pub fn new(pixels: Array3<f32>, stored_as: PixelType) -> Result<Self> {
        let (channels, height, width) = pixels.dim();
        if channels * height * width == 0 {
            return Err(Error::Image(format!(
                "expected at least one pixel, found {channels} channels of {height} x {width}"
            )));
        }
        let pixels = if pixels.is_standard_layout() {
            pixels
        } else {
            pixels.as_standard_layout().into_owned()
        };
        Ok(Self { pixels, stored_as })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.pixels.dim().0
    }

    /// `(height, width)` in pixels.
    pub fn size(&self) -> (usize, usize) {
        let (_, height, width) = self.pixels.dim();
        (height, width)
    }

    /// Pixels `[C, H, W]`, row-major.
    pub fn pixels(&self) -> ArrayView3<'_, f32> {
        self.pixels.view()
    }

    /// How the file stored them.
    pub fn stored_as(&self) -> PixelType {
        self.stored_as
    }
}
