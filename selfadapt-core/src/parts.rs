//! Images that do not fit into memory: what it takes to read, prepare and decode them part by part.

use std::ops::Range;

use ndarray::Array3;

use crate::error::Result;
use crate::resize::Span;

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
