//! Blosc 1 containers, which most OME-Zarr files use: LZ4, zlib, Zstandard and BloscLZ, with shuffled bytes or bits.
//!
//! ```text
//! version, version of the compressor, flags, bytes an element: u8 each; bytes, bytes a block, bytes of the container: u32
//! where each block starts: u32 each; blocks, each of one stream or of one an element's byte: u32 length, bytes
//! ```

use std::io::Read;

/// Bytes of the header.
const HEADER: usize = 16;
/// BloscLZ's distances from which on they have 16 bits more.
const FAR: usize = 8191;

/// Unpacks a container, which must hold exactly `expected` bytes.
///
/// # Errors
/// A sentence, if it is damaged, holds another number of bytes, or was made with Snappy.
pub(super) fn unpack(packed: &[u8], expected: usize) -> Result<Vec<u8>, String> {
    let short = || "its blosc container is cut off".to_owned();
    let header = packed.get(..HEADER).ok_or_else(short)?;
    let (flags, width) = (header[2], usize::from(header[3]));
    let number = |at: usize| word(packed, at).ok_or_else(short);
    let (bytes, block) = (number(4)?, number(8)?);
    if bytes != expected {
        return Err(format!(
            "expected {expected} bytes in a chunk, its blosc container has {bytes}"
        ));
    }
    if flags & 2 != 0 {
        return packed
            .get(HEADER..HEADER + bytes)
            .map(<[u8]>::to_vec)
            .ok_or_else(short);
    }
    if bytes == 0 {
        return Ok(Vec::new());
    }
    if block == 0 || width == 0 || bytes.div_ceil(block) > packed.len() / 4 {
        return Err("its blosc container has an impossible header".to_owned());
    }
    // Grows with what is really there, whatever the header promises.
    let mut all = Vec::new();
    for (index, start) in (0..bytes).step_by(block).enumerate() {
        let length = block.min(bytes - start);
        let at = number(HEADER + 4 * index)?;
        let is_split = flags & 0x10 == 0 && length == block;
        let streams = if is_split { width } else { 1 };
        if !length.is_multiple_of(streams) {
            return Err("its blosc container splits a block unevenly".to_owned());
        }
        let unpacked = streams_at(packed, at, streams, length / streams, flags >> 5)?;
        if flags & 1 != 0 && width > 1 {
            unshuffle(&unpacked, width, &mut all);
        } else if flags & 4 != 0 {
            unshuffle_bits(&unpacked, width, &mut all);
        } else {
            all.extend(unpacked);
        }
    }
    Ok(all)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?) as usize)
}

/// Unpacks `count` streams of `length` bytes each, one after the other.
fn streams_at(
    packed: &[u8],
    mut at: usize,
    count: usize,
    length: usize,
    compressor: u8,
) -> Result<Vec<u8>, String> {
    let short = || "a block of its blosc container is cut off".to_owned();
    let mut block = Vec::new();
    for _ in 0..count {
        let size = word(packed, at).ok_or_else(short)?;
        let end = (at + 4).checked_add(size).ok_or_else(short)?;
        let stream = packed.get(at + 4..end).ok_or_else(short)?;
        at = end;
        let before = block.len();
        match compressor {
            _ if size == length => block.extend_from_slice(stream),
            0 => blosclz(stream, &mut block, before + length)?,
            1 => lz4(stream, &mut block, before + length)?,
            3 => inflate(flate2::read::ZlibDecoder::new(stream), &mut block, length)?,
            4 => inflate(zstd(stream)?, &mut block, length)?,
            2 => {
                return Err(
                    "its blosc container was made with Snappy, which is not read; save it with LZ4 or Zstandard"
                        .to_owned(),
                );
            }
            other => return Err(format!("blosc's compressor {other} is unknown")),
        }
        if block.len() - before != length {
            return Err(short());
        }
    }
    Ok(block)
}

/// A reader of a Zstandard frame.
pub(super) fn zstd(packed: &[u8]) -> Result<impl Read + '_, String> {
    ruzstd::decoding::StreamingDecoder::new(packed).map_err(|error| error.to_string())
}

fn inflate(reader: impl Read, to: &mut Vec<u8>, length: usize) -> Result<(), String> {
    reader
        .take(length as u64)
        .read_to_end(to)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Copies `length` bytes from `distance` before the end, which may reach into what is being written.
fn repeat(
    to: &mut Vec<u8>,
    start: usize,
    distance: usize,
    length: usize,
    end: usize,
) -> Option<()> {
    let from = to
        .len()
        .checked_sub(distance)
        .filter(|&from| from >= start)?;
    if distance == 0 || to.len() + length > end {
        return None;
    }
    for at in from..from + length {
        to.push(to[at]);
    }
    Some(())
}

/// An LZ4 block (github.com/lz4/lz4, doc/lz4_Block_format.md).
fn lz4(mut packed: &[u8], to: &mut Vec<u8>, end: usize) -> Result<(), String> {
    let start = to.len();
    let mut run = || -> Option<()> {
        while to.len() < end {
            let token = usize::from(byte(&mut packed)?);
            let literals = long(&mut packed, token >> 4, 15)?;
            let (copied, rest) = packed.split_at_checked(literals)?;
            packed = rest;
            if to.len() + literals > end {
                return None;
            }
            to.extend_from_slice(copied);
            if packed.is_empty() {
                break;
            }
            let distance = usize::from(byte(&mut packed)?) | usize::from(byte(&mut packed)?) << 8;
            let length = long(&mut packed, token & 15, 15)? + 4;
            repeat(to, start, distance, length, end)?;
        }
        Some(())
    };
    run().ok_or_else(|| "an LZ4 block of its blosc container is damaged".to_owned())
}

fn byte(packed: &mut &[u8]) -> Option<u8> {
    let (first, rest) = packed.split_first()?;
    *packed = rest;
    Some(*first)
}

/// A length that goes on in further bytes where it has its largest value.
fn long(packed: &mut &[u8], mut length: usize, largest: usize) -> Option<usize> {
    if length == largest {
        loop {
            let more = byte(packed)?;
            length = length.checked_add(usize::from(more))?;
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

/// A BloscLZ stream (`blosclz_decompress` of c-blosc 1.21).
fn blosclz(mut packed: &[u8], to: &mut Vec<u8>, end: usize) -> Result<(), String> {
    let start = to.len();
    let mut run = || -> Option<()> {
        let mut control = usize::from(byte(&mut packed)? & 31);
        loop {
            if control >= 32 {
                let mut distance = (control & 31) << 8;
                let length = long(&mut packed, (control >> 5) - 1, 6)? + 3;
                let low = usize::from(byte(&mut packed)?);
                if low == 255 && distance == 31 << 8 {
                    let high = usize::from(byte(&mut packed)?) << 8;
                    distance = (high | usize::from(byte(&mut packed)?)) + FAR;
                } else {
                    distance += low;
                }
                repeat(to, start, distance + 1, length, end)?;
            } else {
                let (copied, rest) = packed.split_at_checked(control + 1)?;
                packed = rest;
                if to.len() + copied.len() > end {
                    return None;
                }
                to.extend_from_slice(copied);
            }
            match byte(&mut packed) {
                Some(next) => control = usize::from(next),
                None => return Some(()),
            }
        }
    };
    run().ok_or_else(|| "a BloscLZ block of its blosc container is damaged".to_owned())
}

/// First all first bytes of the elements, then all second ones, ...; what is left over stands behind.
fn unshuffle(shuffled: &[u8], width: usize, to: &mut Vec<u8>) {
    let count = shuffled.len() / width;
    for element in 0..count {
        to.extend((0..width).map(|byte| shuffled[byte * count + element]));
    }
    to.extend_from_slice(&shuffled[count * width..]);
}

/// The same with bits, where there are eight elements for each byte.
fn unshuffle_bits(shuffled: &[u8], width: usize, to: &mut Vec<u8>) {
    let count = shuffled.len() / width;
    if !count.is_multiple_of(8) {
        to.extend_from_slice(shuffled);
        return;
    }
    let row = count / 8;
    for element in 0..count {
        for byte in 0..width {
            let bit = |b: usize| shuffled[(byte * 8 + b) * row + element / 8] >> (element % 8) & 1;
            to.push((0..8).fold(0, |value, b| value | bit(b) << b));
        }
    }
    to.extend_from_slice(&shuffled[count * width..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lz4_literals_and_overlapping_repeats() {
        // "ab", then 9 bytes from 2 back, then "c" as the last literals.
        let packed = [0x25, b'a', b'b', 2, 0, 0x10, b'c'];
        let mut found = b"x".to_vec();
        lz4(&packed, &mut found, 13).unwrap();
        assert_eq!(found, b"xabababababac");
        for length in 0..packed.len() - 1 {
            let mut found = Vec::new();
            let outcome = lz4(&packed[..length], &mut found, 12);
            assert!(outcome.is_err() || found.len() < 12, "{length}");
        }
        // A distance beyond the start, and more than there is room for.
        assert!(lz4(&[0x15, b'a', 2, 0, 0], &mut Vec::new(), 30).is_err());
        assert!(lz4(&packed, &mut Vec::new(), 10).is_err());
    }

    #[test]
    fn shuffled_bytes_and_bits_come_back() {
        let mut found = Vec::new();
        unshuffle(&[1, 2, 3, 4, 5, 6, 7], 2, &mut found);
        assert_eq!(found, [1, 4, 2, 5, 3, 6, 7]);
        // Eight elements of a byte: element i has only bit i of each row.
        let mut found = Vec::new();
        unshuffle_bits(&[0b1000_0001, 0, 0, 0, 0, 0, 0, 0b10], 1, &mut found);
        assert_eq!(found, [1, 128, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn impossible_containers_are_refused() {
        let header = |flags: u8, width: u8, bytes: u32, block: u32| {
            let mut header = vec![2, 1, flags, width];
            header.extend([bytes, block, 0].iter().flat_map(|n| n.to_le_bytes()));
            header
        };
        assert!(unpack(&[], 4).is_err());
        assert!(unpack(&header(2, 1, 4, 4), 4).is_err());
        assert!(unpack(&header(0x20, 1, 4, 0), 4).is_err());
        assert!(unpack(&header(0x20, 0, 4, 4), 4).is_err());
        let error = unpack(&header(0x20, 1, u32::MAX, 1), 9).unwrap_err();
        assert!(error.contains("expected 9 bytes"), "{error}");
        assert!(unpack(&header(0x20, 1, 1 << 30, 1), 1 << 30).is_err());
    }
}
