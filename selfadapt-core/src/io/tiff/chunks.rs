//! Strips and tiles of a TIFF page: decompression, prediction, and their place in the page.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::super::sample::{Endian, Sample};
use super::directory::Page;

/// Bytes of pixels that chunks which share bytes of the file may claim together.
const MOST_SHARED: u64 = 1 << 24;

/// The most that each compression can shrink data; more is a lie about the size.
fn largest_ratio(compression: u16) -> Result<u64, String> {
    Ok(match compression {
        1 => 1,
        // 12-bit codes for strings of at most 3837 bytes.
        5 => 2600,
        8 | 32946 => 1032,
        32773 => 64,
        // Runs of up to 128 KiB in a block of 4 bytes.
        34926 | 50000 => 40_000,
        other => {
            let name = match other {
                2..=4 => "CCITT fax",
                6 | 7 => "JPEG",
                34712 | 33003 | 33005 => "JPEG 2000",
                34887 => "LERC",
                34925 => "LZMA",
                50001 => "WebP",
                50002 | 52546 => "JPEG XL",
                _ => "unknown to SelfAdapt",
            };
            return Err(format!(
                "expected no compression, LZW, deflate, PackBits or zstd, found compression {other} ({name}); \
                 save it anew, for example with tifffile.imwrite(..., compression='zlib')"
            ));
        }
    })
}

/// Bytes of one row of a chunk, once decompressed.
pub(super) fn row_bytes(page: &Page) -> Option<usize> {
    let samples = if page.planar { 1 } else { page.samples };
    page.chunk
        .0
        .checked_mul(samples)?
        .checked_mul(page.bits)
        .map(|bits| bits.div_ceil(8))
}

/// Rows that chunk `index` stores.
pub(super) fn rows(page: &Page, index: usize) -> usize {
    if page.padded {
        return page.chunk.1;
    }
    let strips = page.height.div_ceil(page.chunk.1);
    (page.height - (index % strips) * page.chunk.1).min(page.chunk.1)
}

/// Checks that the file can hold what the page claims, before anything is allocated for it.
///
/// # Errors
/// A sentence that names the first strip or tile that lies outside the file or claims too much.
pub(super) fn check(page: &Page, length: u64) -> Result<(), String> {
    let ratio = largest_ratio(page.compression)?;
    let stride = row_bytes(page).ok_or("a row has too many bytes")?;
    let mut all = 0_u64;
    for (index, (&offset, &count)) in page.offsets.iter().zip(&page.counts).enumerate() {
        let part = if page.padded { "tile" } else { "strip" };
        let end = offset.saturating_add(count);
        if end > length {
            return Err(format!(
                "{part} {index} ends at byte {end}, but the file ends at byte {length}; it was cut off"
            ));
        }
        let claimed = (stride as u64).saturating_mul(rows(page, index) as u64);
        if claimed
            > count
                .saturating_mul(ratio)
                .saturating_add(64 * u64::from(ratio > 1))
        {
            return Err(format!(
                "{part} {index} claims {claimed} bytes of pixels in {count} bytes of file \
                 ({} x {} pixels); the file is damaged or cut off",
                page.height, page.width
            ));
        }
        all = all.saturating_add(claimed);
    }
    // Chunks that lie over each other can claim more than the whole file: small images may, large ones do not.
    if all > length.saturating_mul(ratio).max(MOST_SHARED) {
        return Err(format!(
            "its strips or tiles claim {all} bytes of pixels in {length} bytes of file ({} x {} pixels); the file is damaged",
            page.height, page.width
        ));
    }
    Ok(())
}

/// Decodes a whole page into `[H, W, S]`, or `[S, H, W]` if it is planar.
///
/// # Errors
/// A sentence, if a strip or tile cannot be decompressed to its full size.
pub(super) fn decode<T: Sample>(
    file: &mut BufReader<File>,
    page: &Page,
    endian: Endian,
) -> Result<Vec<T>, String> {
    let total = page
        .width
        .checked_mul(page.height)
        .and_then(|pixels| pixels.checked_mul(page.samples))
        .ok_or("the page has too many pixels")?;
    let mut pixels = vec![T::default(); total];
    let samples = if page.planar { 1 } else { page.samples };
    for index in 0..page.offsets.len() {
        let Place { plane, top, left } = place(page, index);
        let chunk: Vec<T> = chunk(file, page, index, endian)?;
        let wide = page.chunk.0.min(page.width - left);
        let high = rows(page, index).min(page.height - top);
        let stride = page.chunk.0 * samples;
        for (row, line) in chunk.chunks_exact(stride).take(high).enumerate() {
            let start = ((plane * page.height + top + row) * page.width + left) * samples;
            pixels[start..start + wide * samples].copy_from_slice(&line[..wide * samples]);
        }
    }
    Ok(pixels)
}

/// Where a strip or tile lies.
pub(super) struct Place {
    /// The sample, if each has its own chunks.
    pub plane: usize,
    /// Its first row and column.
    pub top: usize,
    pub left: usize,
}

/// Where chunk `index` lies in its page.
pub(super) fn place(page: &Page, index: usize) -> Place {
    let across = page.width.div_ceil(page.chunk.0);
    let per_plane = across * page.height.div_ceil(page.chunk.1);
    let (plane, place) = (index / per_plane, index % per_plane);
    Place {
        plane,
        top: (place / across) * page.chunk.1,
        left: (place % across) * page.chunk.0,
    }
}

/// Decodes one strip or tile: the rows that it stores, in its full width, samples interleaved unless planar.
///
/// # Errors
/// A sentence, if it cannot be decompressed to its full size.
pub(super) fn chunk<T: Sample>(
    file: &mut BufReader<File>,
    page: &Page,
    index: usize,
    endian: Endian,
) -> Result<Vec<T>, String> {
    let samples = if page.planar { 1 } else { page.samples };
    let stride = row_bytes(page).ok_or("a row has too many bytes")?;
    let stored = rows(page, index);
    let mut packed = vec![0; page.counts[index] as usize];
    file.seek(SeekFrom::Start(page.offsets[index]))
        .and_then(|_| file.read_exact(&mut packed))
        .map_err(|error| error.to_string())?;
    let mut bytes = inflate(page.compression, packed, stride * stored)
        .map_err(|reason| format!("strip or tile {index}: {reason}"))?;
    let order = undo_prediction(page, &mut bytes, stride, samples, endian)?;
    let wide = page.chunk.0 * samples;
    if page.bits == page.dtype.size() * 8 {
        return Ok(page.dtype.decode(&bytes, order).collect());
    }
    let mut pixels = vec![T::default(); wide * stored];
    for (line, target) in bytes
        .chunks_exact(stride)
        .zip(pixels.chunks_exact_mut(wide))
    {
        unpack_bits(line, page.bits, target);
    }
    Ok(pixels)
}

/// Decompresses to exactly `expected` bytes.
fn inflate(compression: u16, packed: Vec<u8>, expected: usize) -> Result<Vec<u8>, String> {
    let mut bytes = match compression {
        1 => packed,
        5 => {
            let mut bytes = Vec::with_capacity(expected);
            let mut decoder =
                weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
            let outcome = decoder.into_vec(&mut bytes).decode(&packed);
            // Some writers leave out the end code: what counts is that all pixels are there.
            outcome.status.map(drop).or_else(|error| {
                if bytes.len() >= expected {
                    Ok(())
                } else {
                    Err(error.to_string())
                }
            })?;
            bytes
        }
        8 | 32946 => read_up_to(flate2::read::ZlibDecoder::new(packed.as_slice()), expected)?,
        32773 => unpack_runs(&packed, expected),
        _ => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(packed.as_slice())
                .map_err(|error| error.to_string())?;
            read_up_to(decoder, expected)?
        }
    };
    if bytes.len() < expected {
        return Err(format!("expected {expected} bytes, found {}", bytes.len()));
    }
    bytes.truncate(expected);
    Ok(bytes)
}

fn read_up_to(reader: impl Read, expected: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(expected);
    reader
        .take(expected as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// PackBits (TIFF 6.0, section 9): a count byte, then that many literal bytes or one repeated byte.
fn unpack_runs(packed: &[u8], expected: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(expected);
    let mut rest = packed;
    while let [count, tail @ ..] = rest
        && bytes.len() < expected
    {
        rest = tail;
        match *count as i8 {
            literal @ 0.. => {
                let (run, tail) = rest.split_at((literal as usize + 1).min(rest.len()));
                bytes.extend_from_slice(run);
                rest = tail;
            }
            -128 => {}
            repeat => {
                if let [byte, tail @ ..] = rest {
                    bytes.extend(std::iter::repeat_n(
                        *byte,
                        (1 - isize::from(repeat)) as usize,
                    ));
                    rest = tail;
                }
            }
        }
    }
    bytes
}

/// Undoes horizontal differencing (2) or the floating-point predictor (3, TIFF technical note 3); returns the
/// byte order of the result.
fn undo_prediction(
    page: &Page,
    bytes: &mut [u8],
    stride: usize,
    samples: usize,
    endian: Endian,
) -> Result<Endian, String> {
    let size = page.dtype.size();
    match page.predictor {
        1 => Ok(endian),
        2 if page.bits == size * 8 => {
            for row in bytes.chunks_exact_mut(stride) {
                match size {
                    1 => (samples..row.len())
                        .for_each(|i| row[i] = row[i].wrapping_add(row[i - samples])),
                    _ => accumulate(row, size, samples, endian),
                }
            }
            Ok(endian)
        }
        3 if page.bits == size * 8 => {
            for row in bytes.chunks_exact_mut(stride) {
                (samples..row.len()).for_each(|i| row[i] = row[i].wrapping_add(row[i - samples]));
                let shuffled = row.to_vec();
                let count = row.len() / size;
                for (i, value) in row.chunks_exact_mut(size).enumerate() {
                    for (k, byte) in value.iter_mut().enumerate() {
                        *byte = shuffled[k * count + i];
                    }
                }
            }
            Ok(Endian::Big)
        }
        other => Err(format!(
            "expected predictor 1, 2 or 3 for {} bits, found {other}; save it anew without a predictor",
            page.bits
        )),
    }
}

/// Running sums of integers of `size` bytes, `samples` apart.
fn accumulate(row: &mut [u8], size: usize, samples: usize, endian: Endian) {
    let mut sums = vec![0_u64; samples];
    for (i, value) in row.chunks_exact_mut(size).enumerate() {
        let mut raw = [0; 8];
        raw[..size].copy_from_slice(value);
        if endian == Endian::Big {
            raw[..size].reverse();
        }
        let sum = &mut sums[i % samples];
        *sum = sum.wrapping_add(u64::from_le_bytes(raw));
        raw = sum.to_le_bytes();
        if endian == Endian::Big {
            raw[..size].reverse();
        }
        value.copy_from_slice(&raw[..size]);
    }
}

/// Unsigned numbers of 1 to 15 bits, the highest bit first.
fn unpack_bits<T: Sample>(line: &[u8], bits: usize, target: &mut [T]) {
    for (i, pixel) in target.iter_mut().enumerate() {
        let value = (i * bits..(i + 1) * bits).fold(0_u32, |value, bit| {
            let byte = line.get(bit / 8).copied().unwrap_or(0);
            value << 1 | u32::from(byte >> (7 - bit % 8) & 1)
        });
        *pixel = T::from_f64(f64::from(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_specification() {
        // The example of Apple's technical note 1023.
        let packed = [
            0xfe, 0xaa, 0x02, 0x80, 0x00, 0x2a, 0xfd, 0xaa, 0x03, 0x80, 0x00, 0x2a, 0x22, 0xf7,
            0xaa,
        ];
        let expected = [
            0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0xaa, 0xaa, 0xaa, 0xaa, 0x80, 0x00, 0x2a, 0x22,
            0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        ];
        assert_eq!(unpack_runs(&packed, 24), expected);
        assert!(unpack_runs(&[0xfe], 24).is_empty());
    }

    #[test]
    fn twelve_bits() {
        let mut target = [0.0_f64; 2];
        unpack_bits(&[0xab, 0xcd, 0xef], 12, &mut target);
        assert_eq!(target, [f64::from(0xabc), f64::from(0xdef)]);
    }

    #[test]
    fn sums_carry_in_both_byte_orders() {
        let mut little = [0xff, 0x00, 0x02, 0x00];
        accumulate(&mut little, 2, 1, Endian::Little);
        assert_eq!(little, [0xff, 0x00, 0x01, 0x01]);
        let mut big = [0x00, 0xff, 0x00, 0x02];
        accumulate(&mut big, 2, 1, Endian::Big);
        assert_eq!(big, [0x00, 0xff, 0x01, 0x01]);
    }
}
