//! Image files read in parts: TIFF and OME-Zarr as they lie on disk, other formats from memory.

use std::ops::Range;
use std::path::Path;

use ndarray::{Array3, Axis, Slice};

use super::{Axes, Format, Provenance, read, tiff, zarr};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::parts::ImageParts;

/// Opens an image for reading in parts, and says what the file holds. TIFF and OME-Zarr are read as parts are asked for; of other
/// formats the whole is read now.
///
/// # Errors
/// As [`read`], and if a TIFF is stored so that no part of it can be read by itself.
pub fn open_parts(
    path: impl AsRef<Path>,
    axes: &Axes,
) -> Result<(Box<dyn ImageParts>, Provenance)> {
    let path = path.as_ref();
    match Format::of(path)? {
        Format::Tiff if path.is_file() => {
            let (parts, layout, selection) = tiff::TiffParts::open(path, axes)?;
            let provenance = Provenance::new(path, &layout, &selection, axes);
            Ok((Box::new(parts), provenance))
        }
        Format::Zarr => {
            let (parts, layout, selection) = zarr::ZarrParts::<f32>::open(path, axes)?;
            let provenance = Provenance::new(path, &layout, &selection, axes);
            Ok((Box::new(parts), provenance))
        }
        _ => {
            let (image, provenance) = read(path, axes)?;
            Ok((Box::new(Whole(image)), provenance))
        }
    }
}

/// `(height, width)` of an image that can be read in parts as it lies on disk; none of other formats. Reads no pixel.
///
/// # Errors
/// As [`open_parts`].
pub fn size_in_parts(path: impl AsRef<Path>, axes: &Axes) -> Result<Option<(usize, usize)>> {
    let path = path.as_ref();
    match Format::of(path)? {
        Format::Tiff if path.is_file() => tiff::size(path, axes).map(Some),
        Format::Zarr => zarr::size(path, axes).map(Some),
        _ => Ok(None),
    }
}

/// An image in memory.
#[derive(Debug)]
pub struct Whole(pub Image);

impl ImageParts for Whole {
    fn size(&self) -> (usize, usize) {
        self.0.size()
    }

    fn channels(&self) -> usize {
        self.0.channels()
    }

    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>> {
        let (height, width) = self.0.size();
        if rows.end > height || columns.end > width {
            return Err(Error::Image(format!(
                "rows {rows:?} and columns {columns:?} lie beyond {height} x {width} pixels"
            )));
        }
        let pixels = self.0.pixels();
        let band = pixels.slice_axis(Axis(1), Slice::from(rows));
        Ok(band.slice_axis(Axis(2), Slice::from(columns)).to_owned())
    }
}
