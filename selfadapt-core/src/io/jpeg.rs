//! JPEG files, gray or colour.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use image::codecs::jpeg::JpegDecoder;
use image::{ColorType, ImageDecoder};
use ndarray::Array3;

use super::axes::{Axes, Axis, Layout};
use super::sample::{Dtype, Endian, Sample};
use super::select::Selection;
use crate::error::{Error, Result};

/// A block of 8 x 8 pixels takes at least a few bits: more than this is a lie about the size.
const LARGEST_RATIO: u64 = 1024;

/// Reads an image `[C, H, W]` of one or three channels.
///
/// # Errors
/// If the file is no JPEG or is damaged.
pub(super) fn read<T: Sample>(path: &Path, wish: &Axes) -> Result<(Array3<T>, Layout, Selection)> {
    let read = || -> std::result::Result<_, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        let decoder = JpegDecoder::new(BufReader::new(file)).map_err(|error| error.to_string())?;
        let (width, height) = decoder.dimensions();
        let total = decoder.total_bytes();
        if total == 0 || total > length.saturating_mul(LARGEST_RATIO) {
            return Err(format!(
                "it claims {height} x {width} pixels in {length} bytes; the file is damaged or cut off"
            ));
        }
        let (channels, dtype) = match decoder.color_type() {
            ColorType::L8 => (1, Dtype::U8),
            ColorType::L16 => (1, Dtype::U16),
            ColorType::Rgb8 => (3, Dtype::U8),
            other => {
                return Err(format!(
                    "expected gray or colour of 8 bits, found {other:?}"
                ));
            }
        };
        let mut bytes = vec![0; usize::try_from(total).map_err(|error| error.to_string())?];
        decoder
            .read_image(&mut bytes)
            .map_err(|error| error.to_string())?;
        let (sizes, axes) = match channels {
            1 => (
                vec![height as usize, width as usize],
                vec![Axis::Y, Axis::X],
            ),
            _ => (
                vec![height as usize, width as usize, channels],
                vec![Axis::Y, Axis::X, Axis::Channel],
            ),
        };
        let layout = Layout {
            sizes,
            axes,
            origin: "JPEG",
            dtype,
        };
        let selection = Selection::choose(&layout, wish)?;
        let endian = if cfg!(target_endian = "big") {
            Endian::Big
        } else {
            Endian::Little
        };
        let pixels = selection.cut(&layout.sizes, dtype.decode(&bytes, endian).collect())?;
        Ok((pixels, layout, selection))
    };
    read().map_err(|reason| Error::read(path, reason))
}
