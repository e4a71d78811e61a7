//! Images that do not fit into memory: what it takes to read, prepare and decode them part by part.

use std::ops::Range;

use ndarray::{Array2, Array3};

use crate::error::Result;
use crate::resize::{Span, bilinear_part};

/// An image that is read in parts, in file units.
pub trait ImageParts {
    /// `(height, width)` in pixels.
    fn size(&self) -> (usize, usize);

    /// Number of channels.
    fn channels(&self) -> usize;

    /// Pixels `[C, rows, columns]`. Quick where rows do not go back.
    ///
    /// # Errors
    /// If the file is damaged there.
    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>>;
}

/// An image as a model sees it, at the working scale, in parts.
pub trait PreparedParts {
    /// `(height, width)` in working pixels.
    fn size(&self) -> (usize, usize);

    /// The network's input `[C, rows, columns]`: the same numbers as those of the image prepared as a whole.
    ///
    /// # Errors
    /// If the file is damaged there.
    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>>;
}

/// An image whose channels are changed pixel by pixel, and then resized bilinearly, in parts.
pub struct Resized<'a, F> {
    /// The file.
    pub image: &'a mut dyn ImageParts,
    /// `(height, width)` in working pixels.
    pub size: (usize, usize),
    /// Channels of the network's input; those that `channels` does not give are zero.
    pub inputs: usize,
    /// From pixels of the file `[C, rows, columns]` to channels of the same size.
    pub channels: F,
}

impl<F: Fn(Array3<f32>) -> Result<Vec<Array2<f32>>>> PreparedParts for Resized<'_, F> {
    fn size(&self) -> (usize, usize) {
        self.size
    }

    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>> {
        let (height, width) = self.image.size();
        let span = |from, to, wanted| Span { from, to, wanted };
        let rows = span(height, self.size.0, rows);
        let columns = span(width, self.size.1, columns);
        let pixels = self.image.read(rows.source(), columns.source())?;
        let shape = (self.inputs, rows.wanted.len(), columns.wanted.len());
        let mut prepared = Array3::zeros(shape);
        let channels = (self.channels)(pixels)?;
        for (mut input, channel) in prepared.outer_iter_mut().zip(channels) {
            input.assign(&bilinear_part(channel.view(), &rows, &columns)?);
        }
        Ok(prepared)
    }
}

/// A part of an image whose maps are decoded by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Rows: from those of the map to those of the image, and which of them are decoded.
    pub rows: Span,
    /// Columns, likewise.
    pub columns: Span,
}

impl Block {
    /// `(height, width)` of the part, in image pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.rows.wanted.len(), self.columns.wanted.len())
    }

    /// `(height, width)` of the whole image.
    pub fn image(&self) -> (usize, usize) {
        (self.rows.to, self.columns.to)
    }
}
