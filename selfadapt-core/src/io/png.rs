//! PNG files: images of 8 and 16 bits, palettes, label images, pictures.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use image::RgbImage;
use ndarray::{Array3, ArrayView2};
use png::{BitDepth, ColorType, Compression, Decoder, Encoder, Transformations};

use super::atomic;
use super::axes::{Axes, Axis, Layout};
use super::sample::{Dtype, Endian, Sample};
use super::select::Selection;
use crate::error::{Error, Result};

/// Deflate shrinks at most this much.
const LARGEST_RATIO: u64 = 1032;

/// What becomes of a palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Palette {
    /// Its colours, as OpenCV and so Cellpose do for images.
    Colours,
    /// Its indices, which are what a label image means.
    Indices,
}

/// Reads an image `[C, H, W]`; an alpha channel is left out, as Cellpose does.
///
/// # Errors
/// If the file is no PNG, or is damaged or cut off.
pub(super) fn read<T: Sample>(
    path: &Path,
    wish: &Axes,
    palette: Palette,
) -> Result<(Array3<T>, Layout, Selection)> {
    let read = || -> std::result::Result<_, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        decode(BufReader::new(file), length, wish, palette)
    };
    read().map_err(|reason| Error::read(path, reason))
}

fn decode<T: Sample>(
    source: BufReader<impl Read + Seek>,
    length: u64,
    wish: &Axes,
    palette: Palette,
) -> std::result::Result<(Array3<T>, Layout, Selection), String> {
    let mut decoder = Decoder::new(source);
    let header = decoder
        .read_header_info()
        .map_err(|error| error.to_string())?;
    let raw = (header.raw_row_length() as u64).saturating_mul(u64::from(header.height));
    let (height, width) = (header.height as usize, header.width as usize);
    if raw > length.saturating_mul(LARGEST_RATIO) {
        return Err(format!(
            "it claims {height} x {width} pixels in {length} bytes; the file is damaged or cut off"
        ));
    }
    let indexed = header.color_type == ColorType::Indexed;
    decoder.set_transformations(match (indexed, palette) {
        (true, Palette::Indices) => Transformations::IDENTITY,
        _ => Transformations::EXPAND,
    });
    // The size was checked above, so the library's own guess at a limit is not needed.
    decoder.set_limits(png::Limits { bytes: usize::MAX });
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    // The library indexes it as it is.
    if let Some(colours) = &reader.info().palette
        && (colours.len() % 3 != 0 || colours.len() > 3 * 256)
    {
        return Err(format!(
            "expected a palette of at most 256 colours of 3 bytes, found {} bytes; the file is damaged",
            colours.len()
        ));
    }
    let size = reader
        .output_buffer_size()
        .ok_or("it has too many pixels")?;
    let mut bytes = vec![0; size];
    let info = reader
        .next_frame(&mut bytes)
        .map_err(|error| error.to_string())?;
    bytes.truncate(info.buffer_size());
    let stored = match info.color_type {
        ColorType::Grayscale | ColorType::Indexed => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
    };
    let channels = if stored % 2 == 0 { stored - 1 } else { stored };
    let bits = info.bit_depth as usize;
    let dtype = if bits == 16 { Dtype::U16 } else { Dtype::U8 };
    let mut data: Vec<T> = Vec::with_capacity(height * width * channels);
    for row in bytes.chunks_exact(info.line_size).take(height) {
        if bits < 8 {
            // Only palette indices stay packed.
            data.extend((0..width).map(|x| {
                let (byte, shift) = (row[x * bits / 8], 8 - bits - (x * bits) % 8);
                T::from_f64(f64::from(byte >> shift & ((1 << bits) - 1)))
            }));
        } else {
            let values = dtype.decode::<T>(row, Endian::Big).enumerate();
            data.extend(
                values
                    .filter(|(i, _)| i % stored < channels)
                    .map(|(_, value)| value),
            );
        }
    }
    let layout = match channels {
        1 => Layout {
            sizes: vec![height, width],
            axes: vec![Axis::Y, Axis::X],
            origin: "PNG",
            dtype,
        },
        _ => Layout {
            sizes: vec![height, width, channels],
            axes: vec![Axis::Y, Axis::X, Axis::Channel],
            origin: "PNG",
            dtype,
        },
    };
    let selection = Selection::choose(&layout, wish)?;
    let pixels = selection.cut(&layout.sizes, data)?;
    Ok((pixels, layout, selection))
}

/// Writes a gray image `[H, W]` of 16 bits, atomically.
///
/// # Errors
/// If there is no pixel or the file cannot be written.
pub fn write_gray16(path: impl AsRef<Path>, pixels: ArrayView2<'_, u16>) -> Result<()> {
    let (height, width) = pixels.dim();
    let bytes: Vec<u8> = pixels
        .iter()
        .flat_map(|value| value.to_be_bytes())
        .collect();
    encode(
        path.as_ref(),
        (height, width),
        ColorType::Grayscale,
        BitDepth::Sixteen,
        &bytes,
    )
}

/// Writes a colour picture of 8 bits, atomically.
///
/// # Errors
/// If there is no pixel or the file cannot be written.
pub fn write_rgb(path: impl AsRef<Path>, picture: &RgbImage) -> Result<()> {
    let size = (picture.height() as usize, picture.width() as usize);
    encode(
        path.as_ref(),
        size,
        ColorType::Rgb,
        BitDepth::Eight,
        picture.as_raw(),
    )
}

fn encode(
    path: &Path,
    (height, width): (usize, usize),
    color: ColorType,
    depth: BitDepth,
    bytes: &[u8],
) -> Result<()> {
    let (Ok(wide), Ok(high)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(Error::write(
            path,
            format!("{height} x {width} pixels are too many for PNG"),
        ));
    };
    atomic::write(path, |sink| {
        let mut encoder = Encoder::new(sink, wide, high);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.set_compression(Compression::Balanced);
        let mut writer = encoder
            .write_header()
            .map_err(|error| Error::write(path, error))?;
        writer
            .write_image_data(bytes)
            .map_err(|error| Error::write(path, error))?;
        writer.finish().map_err(|error| Error::write(path, error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn sixteen_bits_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let pixels = array![[0_u16, 1, 256], [65535, 300, 7]];
        write_gray16(&path, pixels.view()).unwrap();
        let (back, layout, _) = read::<f64>(&path, &Axes::default(), Palette::Colours).unwrap();
        assert_eq!(layout.dtype, Dtype::U16);
        assert_eq!(back.index_axis(ndarray::Axis(0), 0), pixels.mapv(f64::from));
    }

    #[test]
    fn cut_off_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        write_rgb(
            &path,
            &RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8, y as u8, 9])),
        )
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for length in [0, 10, 40, bytes.len() / 2] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(
                read::<f32>(&path, &Axes::default(), Palette::Colours).is_err(),
                "{length}"
            );
        }
        let empty = ndarray::Array2::zeros((0, 4));
        assert!(write_gray16(&path, empty.view()).is_err());
    }
}
