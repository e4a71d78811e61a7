//! An instance image: 0 is background, every other number is one object.

use ndarray::{Array2, ArrayView2};

use crate::error::{Error, Result};

/// An instance image `[H, W]` whose labels are exactly `1..=count`, each of them present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    pixels: Array2<u32>,
    count: u32,
}

impl Labels {
    /// Takes labels of any numbering and renumbers them `1..=count` in the order of their old numbers.
    pub fn new(pixels: Array2<u32>) -> Self {
        let mut pixels = if pixels.is_standard_layout() {
            pixels
        } else {
            pixels.as_standard_layout().into_owned()
        };
        let mut old: Vec<u32> = pixels.iter().copied().filter(|&label| label != 0).collect();
        old.sort_unstable();
        old.dedup();
        let count = old.len() as u32;
        let dense = old.last().is_none_or(|&largest| largest == count);
        if !dense {
            for label in pixels.iter_mut().filter(|label| **label != 0) {
                *label = old.partition_point(|&o| o < *label) as u32 + 1;
            }
        }
        Self { pixels, count }
    }

    /// As [`Labels::new`], from rows laid end to end.
    ///
    /// # Errors
    /// If `pixels` does not hold `height * width` numbers.
    pub fn from_rows(height: usize, width: usize, pixels: Vec<u32>) -> Result<Self> {
        let found = pixels.len();
        Array2::from_shape_vec((height, width), pixels)
            .map(Self::new)
            .map_err(|_| {
                Error::Labels(format!(
                    "expected {height} x {width} = {} pixels, found {found}",
                    height * width
                ))
            })
    }

    /// An image without objects.
    pub fn empty(height: usize, width: usize) -> Self {
        Self {
            pixels: Array2::zeros((height, width)),
            count: 0,
        }
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// `(height, width)` in pixels.
    pub fn size(&self) -> (usize, usize) {
        self.pixels.dim()
    }

    /// The pixels `[H, W]`.
    pub fn pixels(&self) -> ArrayView2<'_, u32> {
        self.pixels.view()
    }

    /// Pixels in rows laid end to end.
    pub fn as_slice(&self) -> &[u32] {
        // `new` makes every array row-major, so the slice is always there.
        self.pixels.as_slice().unwrap_or(&[])
    }

    /// Pixels per object; entry `i` belongs to label `i + 1`.
    pub fn areas(&self) -> Vec<usize> {
        let mut areas = vec![0; self.count()];
        for &label in self.pixels.iter().filter(|&&label| label != 0) {
            areas[label as usize - 1] += 1;
        }
        areas
    }

    /// The diameter of the disc of each object's area, in pixels.
    pub fn diameters(&self) -> Vec<f64> {
        let areas = self.areas().into_iter();
        areas
            .map(|area| (area as f64 * 4. / std::f64::consts::PI).sqrt())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_close_in_order() {
        let labels = Labels::from_rows(2, 3, vec![0, 7, 7, 3, 0, 9]).unwrap();
        assert_eq!(labels.as_slice(), &[0, 2, 2, 1, 0, 3]);
        assert_eq!(labels.count(), 3);
        assert_eq!(labels.areas(), vec![1, 2, 1]);
    }

    #[test]
    fn wrong_length_is_an_error() {
        assert!(Labels::from_rows(2, 2, vec![0; 3]).is_err());
    }
}
