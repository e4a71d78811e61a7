//! ImageJ's ROI archives: a freehand polygon per object.

use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::atomic;
use super::outlines::{Outline, outlines};
use crate::error::{Error, Result};
use crate::labels::Labels;

/// Coordinates beyond this need floating point numbers in ImageJ's format.
const LARGEST_SHORT: u32 = 60_535;

/// Freehand polygon.
const FREEHAND: u8 = 7;

/// Options: show overlay labels (8) and their backgrounds (32).
const OVERLAY: u16 = 8 | 32;

/// Option: floating point coordinates follow the whole ones.
const SUB_PIXEL: u16 = 128;

/// Writes the outlines of all objects to a zip archive that ImageJ's ROI Manager opens, atomically (`io.save_rois` of
/// Cellpose 3.1.1). ROI `00012` is label 12; objects of a few pixels, which have no outline, are left out.
///
/// Returns how many ROIs there are.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: impl AsRef<Path>, labels: &Labels) -> Result<usize> {
    let path = path.as_ref();
    let fail = |error: zip::result::ZipError| Error::write(path, error);
    atomic::write(path, |sink| {
        let mut archive = ZipWriter::new(sink);
        // No time stamp: the same labels give the same file.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default());
        let mut count = 0;
        for (index, outline) in outlines(labels).into_iter().enumerate() {
            let name = format!("{:05}", index + 1);
            if let Some(roi) = roi(&name, &outline) {
                archive
                    .start_file(format!("{name}.roi"), options)
                    .map_err(fail)?;
                archive
                    .write_all(&roi)
                    .map_err(|error| Error::write(path, error))?;
                count += 1;
            }
        }
        archive.finish().map_err(fail)?;
        Ok(count)
    })
}

/// One ROI file, version 229 of ImageJ's format (`ij/io/RoiEncoder.java`): a header of 64 bytes, coordinates relative
/// to the upper left corner, a second header of 64 bytes, the name. All numbers are big-endian.
fn roi(name: &str, outline: &Outline) -> Option<Vec<u8>> {
    let (left, right) = (
        outline.iter().map(|p| p[0]).min()?,
        outline.iter().map(|p| p[0]).max()?,
    );
    let (top, bottom) = (
        outline.iter().map(|p| p[1]).min()?,
        outline.iter().map(|p| p[1]).max()?,
    );
    let count = u32::try_from(outline.len()).ok()?;
    let sub_pixel = right.max(bottom) > LARGEST_SHORT;
    let mut bytes = Vec::with_capacity(128 + outline.len() * 12 + 2 * name.len());
    let short = |bytes: &mut Vec<u8>, value: u32| {
        bytes.extend_from_slice(&((value & 0xffff) as u16).to_be_bytes());
    };
    bytes.extend_from_slice(b"Iout");
    short(&mut bytes, 229);
    bytes.extend_from_slice(&[FREEHAND, 0]);
    [top, left, bottom + 1, right + 1]
        .into_iter()
        .for_each(|side| short(&mut bytes, side));
    // From 65536 points on the count stands, as a long number, where a line would have its start.
    let long = count > 0xffff;
    short(&mut bytes, if long { 0 } else { count });
    bytes.extend_from_slice(&(if long { count } else { 0 }).to_be_bytes());
    bytes.resize(50, 0);
    short(
        &mut bytes,
        u32::from(OVERLAY | if sub_pixel { SUB_PIXEL } else { 0 }),
    );
    bytes.resize(60, 0);
    let coordinates = outline.len() as u32 * if sub_pixel { 12 } else { 4 };
    let second = 64 + coordinates;
    bytes.extend_from_slice(&second.to_be_bytes());
    outline
        .iter()
        .for_each(|point| short(&mut bytes, point[0] - left));
    outline
        .iter()
        .for_each(|point| short(&mut bytes, point[1] - top));
    if sub_pixel {
        for axis in [0, 1] {
            for point in outline {
                bytes.extend_from_slice(&(point[axis] as f32).to_be_bytes());
            }
        }
    }
    let letters: Vec<u16> = name.encode_utf16().collect();
    bytes.resize(second as usize + 16, 0);
    bytes.extend_from_slice(&(second + 64).to_be_bytes());
    bytes.extend_from_slice(&(letters.len() as u32).to_be_bytes());
    bytes.resize(second as usize + 64, 0);
    letters
        .iter()
        .for_each(|letter| bytes.extend_from_slice(&letter.to_be_bytes()));
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_coordinates() {
        let outline = vec![[10, 20], [10, 21], [10, 22], [11, 22], [12, 22]];
        let roi = roi("00007", &outline).unwrap();
        assert_eq!(&roi[..8], b"Iout\x00\xe5\x07\x00");
        assert_eq!(&roi[8..18], &[0, 20, 0, 10, 0, 23, 0, 13, 0, 5]);
        assert_eq!(&roi[60..64], &84_u32.to_be_bytes());
        assert_eq!(&roi[64..74], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 2]);
        assert_eq!(&roi[148..158], b"\x000\x000\x000\x000\x007");
        assert_eq!(roi.len(), 158);
    }

    #[test]
    fn far_coordinates_get_floats() {
        let outline = vec![
            [70_000, 1],
            [70_001, 1],
            [70_002, 1],
            [70_002, 2],
            [70_000, 2],
        ];
        let roi = roi("1", &outline).unwrap();
        assert_eq!(&roi[50..52], &[0, 168]);
        assert_eq!(&roi[84..88], &70_000_f32.to_be_bytes());
    }
}
