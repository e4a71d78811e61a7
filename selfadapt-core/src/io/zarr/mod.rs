//! OME-Zarr: images and labels of NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3), read in parts and written.

mod blosc;
mod chunks;
mod metadata;
mod ngff;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::Array3;

pub use write::{Ngff, write_image, write_labels};

use super::axes::{Axes, Layout};
use super::sample::Sample;
use super::select::Selection;
use crate::error::{Error, Result};
use crate::parts::ImageParts;
use metadata::ArrayInfo;

/// Numbers beyond which an array is not read as a whole.
const MOST_VALUES: usize = 1 << 28;

/// Reads one plane `[C, H, W]` of the image of full size.
///
/// # Errors
/// If the folder is no OME-Zarr image, a chunk is damaged or packed in a way that is not read, or `wish` leaves the
/// plane open.
pub(super) fn read<T: Sample>(path: &Path, wish: &Axes) -> Result<(Array3<T>, Layout, Selection)> {
    let (mut parts, layout, selection) = ZarrParts::<T>::open(path, wish)?;
    let (channels, height, width) = selection.shape(&layout);
    let values = channels.saturating_mul(height).saturating_mul(width);
    // Chunks may be left out, so that nothing but this speaks against a size.
    if values > MOST_VALUES {
        return Err(Error::read(
            path,
            format!(
                "{channels} x {height} x {width} values are too many to be read at once; go through it in parts"
            ),
        ));
    }
    let pixels = parts.gather(0..height, 0..width)?;
    Ok((pixels, layout, selection))
}

/// Whether a folder lies in one whose name ends in `.zarr`.
pub(super) fn is_inside(path: &Path) -> bool {
    let mut above = path.ancestors().skip(1);
    above.any(|folder| super::inputs::extension(folder) == "zarr")
}

/// The size `(height, width)` of the plane that `wish` chooses; reads no pixel.
pub(super) fn size(path: &Path, wish: &Axes) -> Result<(usize, usize)> {
    let (_, layout, selection) = ZarrParts::<f32>::open(path, wish)?;
    let (_, height, width) = selection.shape(&layout);
    Ok((height, width))
}

/// A plane of an array, and the chunks unpacked last.
#[derive(Debug)]
pub(super) struct ZarrParts<T> {
    path: PathBuf,
    folder: PathBuf,
    info: ArrayInfo,
    selection: Selection,
    shape: (usize, usize, usize),
    /// By place; none where the array has its fill value.
    unpacked: BTreeMap<Vec<usize>, Option<Vec<T>>>,
}

impl<T: Sample> ZarrParts<T> {
    /// Opens the plane that `wish` chooses.
    pub fn open(path: &Path, wish: &Axes) -> Result<(Self, Layout, Selection)> {
        let fail = |reason: String| Error::read(path, reason);
        let found = ngff::find(path).map_err(fail)?;
        let layout = Layout {
            sizes: found.info.shape.clone(),
            axes: found.axes,
            origin: found.origin,
            dtype: found.info.dtype,
        };
        if layout.sizes.contains(&0) {
            let sizes = &layout.sizes;
            return Err(fail(format!(
                "expected pixels, found an array of {sizes:?}"
            )));
        }
        let selection = Selection::choose(&layout, wish).map_err(fail)?;
        let parts = Self {
            path: path.to_owned(),
            folder: found.folder,
            info: found.info,
            selection: selection.clone(),
            shape: selection.shape(&layout),
            unpacked: BTreeMap::new(),
        };
        Ok((parts, layout, selection))
    }

    fn gather(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<T>> {
        let (channels, height, width) = self.shape;
        if rows.end > height || columns.end > width {
            return Err(Error::Image(format!(
                "rows {rows:?} and columns {columns:?} lie beyond {height} x {width} pixels"
            )));
        }
        self.collect(channels, &rows, &columns)
            .map_err(|reason| Error::read(&self.path, reason))
    }

    fn collect(
        &mut self,
        channels: usize,
        rows: &Range<usize>,
        columns: &Range<usize>,
    ) -> std::result::Result<Array3<T>, String> {
        let (y, x) = (self.selection.y, self.selection.x);
        let chunk = self.info.chunk.clone();
        // What lies above will not be asked for again.
        self.unpacked
            .retain(|place, _| (place[y] + 1) * chunk[y] > rows.start);
        let mut stride = vec![1; chunk.len()];
        for axis in (0..chunk.len().saturating_sub(1)).rev() {
            stride[axis] = stride[axis + 1] * chunk[axis + 1];
        }
        let mut pixels = Array3::from_elem(
            (channels, rows.len(), columns.len()),
            T::from_f64(self.info.fill),
        );
        for channel in 0..channels {
            let mut at = self.selection.at.clone();
            if let Some(axis) = self.selection.channel {
                at[axis] = channel;
            }
            for down in rows.start / chunk[y]..rows.end.div_ceil(chunk[y]) {
                for across in columns.start / chunk[x]..columns.end.div_ceil(chunk[x]) {
                    let mut place: Vec<usize> =
                        at.iter().zip(&chunk).map(|(at, c)| at / c).collect();
                    (place[y], place[x]) = (down, across);
                    if !self.unpacked.contains_key(&place) {
                        let numbers = chunks::read(&self.folder, &self.info, &place)?;
                        self.unpacked.insert(place.clone(), numbers);
                    }
                    let Some(Some(numbers)) = self.unpacked.get(&place) else {
                        continue;
                    };
                    let base: usize = (0..chunk.len())
                        .filter(|&axis| axis != y && axis != x)
                        .map(|axis| (at[axis] % chunk[axis]) * stride[axis])
                        .sum();
                    let (top, left) = (down * chunk[y], across * chunk[x]);
                    for row in rows.start.max(top)..rows.end.min(top + chunk[y]) {
                        let line = base + (row - top) * stride[y];
                        for column in columns.start.max(left)..columns.end.min(left + chunk[x]) {
                            pixels[[channel, row - rows.start, column - columns.start]] =
                                numbers[line + (column - left) * stride[x]];
                        }
                    }
                }
            }
        }
        Ok(pixels)
    }
}

impl ImageParts for ZarrParts<f32> {
    fn size(&self) -> (usize, usize) {
        (self.shape.1, self.shape.2)
    }

    fn channels(&self) -> usize {
        self.shape.0
    }

    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>> {
        self.gather(rows, columns)
    }
}
