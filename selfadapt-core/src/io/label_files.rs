//! Label images from files: TIFF, PNG, `.npy`, `.npz` and Cellpose's `_seg.npy`.

use std::io::Read;
use std::path::Path;

use ndarray::Array3;

use super::axes::Axes;
use super::png::Palette;
use super::select::Selection;
use super::{npy, read_array, seg};
use crate::error::{Error, Result};
use crate::labels::Labels;

/// Reads a label image, 0 being background; the labels are renumbered `1..=count` in their order.
///
/// Floating point files are taken if every value is a whole number; of a PNG with a palette the indices count.
///
/// # Errors
/// As [`super::read`], and if the file holds several planes or channels, or a value that is negative, fractional, or
/// beyond 32 bits: the message says where.
pub fn read_labels(path: impl AsRef<Path>) -> Result<Labels> {
    let path = path.as_ref();
    if holds_objects(path) {
        return seg::read_masks(path);
    }
    let (pixels, ..) = read_array::<f64>(path, &Axes::default(), Palette::Indices)?;
    from_numbers(pixels).map_err(|reason| Error::read(path, reason))
}

/// Whether a `.npy` file holds Python objects, as `_seg.npy` does.
fn holds_objects(path: &Path) -> bool {
    let npy = super::inputs::extension(path) == "npy";
    npy && std::fs::File::open(path)
        .ok()
        .and_then(|file| npy::header(&mut file.take(1 << 21)).ok())
        .is_some_and(|(header, _)| header.dtype.is_none())
}

/// Labels from the one channel of `pixels [1, H, W]`.
pub(super) fn from_numbers(pixels: Array3<f64>) -> std::result::Result<Labels, String> {
    let (channels, height, width) = pixels.dim();
    if channels != 1 {
        return Err(format!(
            "expected one label per pixel, found {channels} channels: this looks like a picture of labels, \
             not a label image"
        ));
    }
    let mut labels = Vec::with_capacity(height * width);
    for ((_, row, column), &value) in pixels.indexed_iter() {
        if value < 0.0 || value > f64::from(u32::MAX) || value.fract() != 0.0 || value.is_nan() {
            return Err(format!(
                "expected whole numbers from 0 to {}, found {value} in row {row}, column {column}",
                u32::MAX
            ));
        }
        labels.push(value as u32);
    }
    Labels::from_rows(height, width, labels).map_err(|error| error.to_string())
}

/// Labels from an array of any two axes longer than 1, in the order of `shape`.
pub(super) fn from_shape(
    shape: &[usize],
    fortran_order: bool,
    mut data: Vec<f64>,
) -> std::result::Result<Labels, String> {
    let mut long: Vec<usize> = shape.to_vec();
    while long.len() > 2 {
        match long.iter().position(|&size| size == 1) {
            Some(place) => drop(long.remove(place)),
            None => {
                return Err(format!(
                    "expected labels of one plane, found an array of shape {shape:?}; save one plane of it"
                ));
            }
        }
    }
    let &[height, width] = long.as_slice() else {
        return Err(format!(
            "expected labels of two axes, found an array of shape {shape:?}"
        ));
    };
    // Cellpose 0.x numbered background -1.
    if data.iter().copied().fold(0.0, f64::min) == -1.0 {
        data.iter_mut().for_each(|value| *value += 1.0);
    }
    let selection = Selection {
        y: usize::from(fortran_order),
        x: usize::from(!fortran_order),
        channel: None,
        inferred: false,
        at: vec![0; 2],
        planes: 1,
    };
    let stored = if fortran_order {
        [width, height]
    } else {
        [height, width]
    };
    from_numbers(selection.cut(&stored, data)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn only_whole_numbers_are_labels() {
        let labels = from_numbers(array![[[0.0, 3.0], [3.0, 70_000.0]]]).unwrap();
        assert_eq!(labels.as_slice(), &[0, 1, 1, 2]);
        for bad in [-1.0, 0.5, f64::NAN, f64::INFINITY, 4_294_967_296.0] {
            let reason = from_numbers(array![[[0.0, 1.0], [bad, 2.0]]]).unwrap_err();
            assert!(reason.contains("row 1, column 0"), "{reason}");
        }
        assert!(
            from_numbers(Array3::zeros((3, 2, 2)))
                .unwrap_err()
                .contains("3 channels")
        );
    }

    #[test]
    fn column_major_arrays_are_turned() {
        // The rows (1, 2, 3) and (4, 5, 6), stored by columns.
        let data = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0].to_vec();
        let labels = from_shape(&[1, 2, 3], true, data).unwrap();
        assert_eq!(labels.size(), (2, 3));
        assert_eq!(labels.as_slice(), &[1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_background_of_minus_one_is_lifted() {
        let labels = from_shape(&[1, 3], false, vec![-1.0, 0.0, 1.0]).unwrap();
        assert_eq!(labels.as_slice(), &[0, 1, 2]);
    }
}
