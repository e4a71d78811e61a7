//! Label images of any size as tiled, deflated BigTIFF, written from top to bottom.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use rayon::prelude::*;

use super::super::atomic::{self, Sink};
use crate::error::{Error, Result};

/// Side of a tile in pixels.
const TILE: usize = 256;

/// Writes labels `[H, W]`, atomically: 16 bits a pixel where `largest` fits into them, else 32. `next` fills in one row
/// after the other. Memory is that of one row of tiles.
///
/// # Errors
/// If there is no pixel, `next` fails, a label is larger than `largest`, or the file cannot be written.
pub fn write_labels(
    path: impl AsRef<Path>,
    (height, width): (usize, usize),
    largest: usize,
    next: &mut dyn FnMut(usize, &mut [u32]) -> Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    if height * width == 0 || u32::try_from(height.max(width)).is_err() {
        return Err(Error::write(
            path,
            format!("expected 1 to 2^32 - 1 pixels a side, found {height} x {width}"),
        ));
    }
    let bits: usize = if largest <= usize::from(u16::MAX) {
        16
    } else {
        32
    };
    atomic::write(path, |sink| {
        let failed = |error: std::io::Error| Error::write(path, error);
        let mut at = 16;
        sink.write_all(&header(0)).map_err(failed)?;
        let (mut offsets, mut counts) = (Vec::new(), Vec::new());
        let mut band = vec![0; TILE * width];
        for top in (0..height).step_by(TILE) {
            let rows = TILE.min(height - top);
            band.fill(0);
            for (row, line) in band.chunks_exact_mut(width).take(rows).enumerate() {
                next(top + row, line)?;
            }
            if let Some(label) = band.iter().find(|&&label| label as usize > largest) {
                return Err(Error::Labels(format!(
                    "expected labels up to {largest}, found {label}"
                )));
            }
            let tiles: Vec<std::io::Result<Vec<u8>>> = (0..width)
                .into_par_iter()
                .step_by(TILE)
                .map(|left| deflated(&band, width, left, bits))
                .collect();
            for tile in tiles {
                let tile = tile.map_err(failed)?;
                sink.write_all(&tile).map_err(failed)?;
                offsets.push(at);
                counts.push(tile.len() as u64);
                at += tile.len() as u64;
            }
        }
        directory(sink, at, (height, width), bits, [&offsets, &counts]).map_err(failed)
    })
}

/// The first 16 bytes of a BigTIFF whose directory lies at `at`.
fn header(at: u64) -> Vec<u8> {
    let mut header = b"II\x2b\0\x08\0\0\0".to_vec();
    header.extend(at.to_le_bytes());
    header
}

/// One tile of a band, zeros beyond the image's right edge.
fn deflated(band: &[u32], width: usize, left: usize, bits: usize) -> std::io::Result<Vec<u8>> {
    let wide = TILE.min(width - left);
    let mut bytes = Vec::with_capacity(TILE * TILE * bits / 8);
    for row in band.chunks_exact(width) {
        let row = &row[left..left + wide];
        let beyond = TILE - wide;
        if bits == 16 {
            bytes.extend(row.iter().flat_map(|&label| (label as u16).to_le_bytes()));
        } else {
            bytes.extend(row.iter().flat_map(|label| label.to_le_bytes()));
        }
        bytes.resize(bytes.len() + beyond * bits / 8, 0);
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(&bytes)?;
    encoder.finish()
}

/// The directory, the lists that it points to before it, and the header anew.
fn directory(
    sink: &mut Sink,
    mut at: u64,
    (height, width): (usize, usize),
    bits: usize,
    [offsets, counts]: [&[u64]; 2],
) -> std::io::Result<()> {
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const LONG8: u16 = 16;
    const ASCII: u16 = 2;
    // As tifffile describes a plane.
    let mut text = format!("{{\"shape\": [{height}, {width}]}}\0").into_bytes();
    let text_length = text.len() as u64;
    text.resize(text.len().next_multiple_of(8), 0);
    let mut put = |sink: &mut Sink, bytes: &[u8]| -> std::io::Result<u64> {
        let start = at;
        sink.write_all(bytes)?;
        at += bytes.len() as u64;
        Ok(start)
    };
    let list =
        |numbers: &[u64]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let text_at = put(sink, &text)?;
    // A single number stands in the entry itself.
    let place = |numbers: &[u64], at: u64| match numbers {
        [only] => *only,
        _ => at,
    };
    let (first, second) = (put(sink, &list(offsets))?, put(sink, &list(counts))?);
    let entries: [(u16, u16, u64, u64); 12] = [
        (256, LONG, 1, width as u64),
        (257, LONG, 1, height as u64),
        (258, SHORT, 1, bits as u64),
        (259, SHORT, 1, 8),
        (262, SHORT, 1, 1),
        (270, ASCII, text_length, text_at),
        (277, SHORT, 1, 1),
        (322, LONG, 1, TILE as u64),
        (323, LONG, 1, TILE as u64),
        (324, LONG8, offsets.len() as u64, place(offsets, first)),
        (325, LONG8, counts.len() as u64, place(counts, second)),
        (339, SHORT, 1, 1),
    ];
    let mut bytes = (entries.len() as u64).to_le_bytes().to_vec();
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(0_u64.to_le_bytes());
    let start = put(sink, &bytes)?;
    sink.seek(SeekFrom::Start(0))?;
    sink.write_all(&header(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::read_labels;

    #[test]
    fn labels_come_back_in_sixteen_and_in_thirty_two_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        for (size, largest, step) in [
            ((3, 5), 14, 1),
            ((300, 517), 155_099, 1),
            ((256, 256), 9, 7),
        ] {
            let label = |row: usize, column: usize| (row * size.1 + column) * step % (largest + 1);
            write_labels(&path, size, largest, &mut |row, line| {
                for (column, pixel) in line.iter_mut().enumerate() {
                    *pixel = label(row, column) as u32;
                }
                Ok(())
            })
            .unwrap();
            let labels = read_labels(&path).unwrap();
            assert_eq!(labels.size(), size);
            assert_eq!(labels.count(), largest);
            for ((row, column), &found) in labels.pixels().indexed_iter() {
                assert_eq!(found as usize, label(row, column));
            }
        }
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        let mut nine = |_: usize, line: &mut [u32]| {
            line.fill(9);
            Ok(())
        };
        assert!(write_labels(&path, (0, 3), 9, &mut nine).is_err());
        let error = write_labels(&path, (2, 3), 8, &mut nine).unwrap_err();
        assert!(error.to_string().contains("up to 8, found 9"), "{error}");
        assert!(!path.exists());
    }
}
