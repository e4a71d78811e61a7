//! Images, labels and results on disk, one file a format; nothing else in this crate touches a disk.

pub mod atomic;
mod axes;
pub mod datasets;
mod flows;
pub mod inputs;
mod jpeg;
mod label_files;
pub mod npy;
pub mod outlines;
pub mod outputs;
pub mod overlay;
mod parts;
mod pickle;
pub mod png;
mod provenance;
pub mod rois;
mod sample;
pub mod seg;
mod select;
mod sheet;
pub mod tiff;
pub mod zarr;

use std::path::Path;

use ndarray::Array3;

pub use axes::Axes;
pub use flows::{Flows, flow_picture};
pub use inputs::{Inputs, inputs};
pub use label_files::read_labels;
pub use parts::{Whole, open_parts, size_in_parts};
pub use provenance::Provenance;
pub use sheet::{Renumbering, Sheet};

use crate::error::{Error, Result};
use crate::image::Image;
use axes::Layout;
use png::Palette;
use sample::Sample;
use select::Selection;

/// Reads an image of TIFF, PNG, JPEG, `.npy`, `.npz` or OME-Zarr: one plane `[C, H, W]` in file units, NaN and infinite pixels
/// included (see [`check_finite`]), and an account of what the file held.
///
/// # Errors
/// If the file is missing, damaged or of another kind, claims more pixels than it can hold, or holds a stack and
/// `axes` does not choose a plane; the message names the file and says what to do.
pub fn read(path: impl AsRef<Path>, axes: &Axes) -> Result<(Image, Provenance)> {
    let path = path.as_ref();
    let (pixels, layout, selection) = read_array::<f32>(path, axes, Palette::Colours)?;
    let provenance = Provenance::new(path, &layout, &selection, axes);
    Ok((Image::new(pixels, layout.dtype.pixel_type())?, provenance))
}

/// Refuses an image with pixels that are not numbers.
///
/// # Errors
/// If there is a NaN or an infinite value: how many there are, and where the first is.
pub fn check_finite(image: &Image) -> Result<()> {
    let pixels = image.pixels();
    let mut bad = pixels
        .indexed_iter()
        .filter(|(_, value)| !value.is_finite());
    match bad.next() {
        None => Ok(()),
        Some(((channel, row, column), value)) => Err(Error::NotFinite(format!(
            "{} of {} pixel values are NaN or infinite, the first ({value}) in channel {channel}, row {row}, \
             column {column}; replace them, for example by 0, before going on",
            1 + bad.count(),
            pixels.len()
        ))),
    }
}

/// The kinds of file that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Tiff,
    Png,
    Jpeg,
    Npy,
    Npz,
    Zarr,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        let extension = inputs::extension(path);
        Ok(match extension.as_str() {
            "tif" | "tiff" | "flex" | "btf" | "tf2" | "tf8" => Format::Tiff,
            "png" => Format::Png,
            "jpg" | "jpeg" => Format::Jpeg,
            "npy" => Format::Npy,
            "npz" => Format::Npz,
            "zarr" => Format::Zarr,
            // A group inside of one, PLATE.zarr/A/1/0, is a folder without an ending.
            _ if path.is_dir() && zarr::is_inside(path) => Format::Zarr,
            _ => return Err(inputs::unsupported(path)),
        })
    }
}

fn read_array<T: Sample>(
    path: &Path,
    axes: &Axes,
    palette: Palette,
) -> Result<(Array3<T>, Layout, Selection)> {
    let format = Format::of(path)?;
    if path.is_dir() && format != Format::Zarr {
        return Err(Error::read(path, "expected a file, found a folder"));
    }
    match format {
        Format::Tiff => tiff::read(path, axes),
        Format::Png => png::read(path, axes, palette),
        Format::Jpeg => jpeg::read(path, axes),
        Format::Npy => npy::read(path, axes),
        Format::Npz => npy::read_npz(path, None, axes),
        Format::Zarr => zarr::read(path, axes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelType;
    use ndarray::array;

    #[test]
    fn the_first_bad_pixel_is_named() {
        let image = |pixels| Image::new(pixels, PixelType::Float).unwrap();
        assert!(check_finite(&image(array![[[0.0, 1.0]], [[2.0, 3.0]]])).is_ok());
        let bad = image(array![[[0.0, 1.0]], [[f32::NAN, f32::INFINITY]]]);
        let message = check_finite(&bad).unwrap_err().to_string();
        assert!(
            message.contains("2 of 4") && message.contains("channel 1, row 0, column 0"),
            "{message}"
        );
    }
}
