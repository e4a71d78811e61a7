//! The chunks of an array: their files or places in shards, unpacked.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::super::sample::Sample;
use super::blosc;
use super::metadata::{ArrayInfo, Codec};

/// Bytes of a file beyond those of the numbers in it that a chunk's packing may add.
const SLACK: u64 = 1 << 16;

/// The numbers of the chunk at `place` (counted in chunks), row-major; none where the array has its fill value.
///
/// # Errors
/// A sentence, if its file is damaged.
pub(super) fn read<T: Sample>(
    folder: &Path,
    info: &ArrayInfo,
    place: &[usize],
) -> Result<Option<Vec<T>>, String> {
    let count: usize = info.chunk.iter().product();
    let bytes = count * info.dtype.size();
    let Some(packed) = packed(folder, info, place, bytes as u64)? else {
        return Ok(None);
    };
    let mut unpacked = packed;
    for (at, codec) in info.codecs.iter().enumerate().rev() {
        // Only the outermost packing but a checksum's can be of unknown length.
        let length = (at == 0).then_some(bytes);
        unpacked = undo(*codec, unpacked, length, bytes)?;
    }
    if unpacked.len() != bytes {
        return Err(format!(
            "expected {bytes} bytes in a chunk, found {}",
            unpacked.len()
        ));
    }
    Ok(Some(info.dtype.decode(&unpacked, info.endian).collect()))
}

/// Undoes one packing; never to more than the chunk's bytes and a little.
fn undo(
    codec: Codec,
    packed: Vec<u8>,
    length: Option<usize>,
    bytes: usize,
) -> Result<Vec<u8>, String> {
    let most = length.unwrap_or(bytes + SLACK as usize);
    let through = |reader: &mut dyn Read| {
        let mut unpacked = Vec::new();
        let read = reader.take(most as u64 + 1).read_to_end(&mut unpacked);
        read.map(|_| unpacked).map_err(|error| error.to_string())
    };
    match codec {
        Codec::Blosc => blosc::unpack(&packed, bytes),
        Codec::Gzip => through(&mut flate2::read::GzDecoder::new(packed.as_slice())),
        Codec::Zlib => through(&mut flate2::read::ZlibDecoder::new(packed.as_slice())),
        Codec::Zstd => through(&mut blosc::zstd(&packed)?),
        Codec::Crc32c => {
            let mut packed = packed;
            let kept = packed
                .len()
                .checked_sub(4)
                .ok_or("a chunk's checksum is cut off")?;
            let found = packed.split_off(kept);
            if found != crc32c(&packed).to_le_bytes() {
                return Err("a chunk's checksum does not fit; the file is damaged".to_owned());
            }
            Ok(packed)
        }
    }
}

/// The bytes of a chunk as they lie on disk.
fn packed(
    folder: &Path,
    info: &ArrayInfo,
    place: &[usize],
    bytes: u64,
) -> Result<Option<Vec<u8>>, String> {
    let parts: Vec<usize> = info
        .file
        .iter()
        .zip(&info.chunk)
        .map(|(f, c)| f / c)
        .collect();
    let of_file: Vec<usize> = place
        .iter()
        .zip(&parts)
        .map(|(at, parts)| at / parts)
        .collect();
    let path = folder.join(name(info, &of_file));
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let length = file.metadata().map_err(failed)?.len();
    let (start, count) = if info.is_sharded {
        let within = place
            .iter()
            .zip(&parts)
            .fold(0, |index, (at, parts)| index * parts + at % parts);
        match in_shard(&mut file, info, length, parts.iter().product(), within)? {
            Some(range) => range,
            None => return Ok(None),
        }
    } else {
        (0, length)
    };
    // Packing can make a chunk larger, but not by much.
    if count > bytes.saturating_mul(2).saturating_add(SLACK) || start.saturating_add(count) > length
    {
        return Err(format!(
            "{}: {count} bytes for a chunk of {bytes}; the file is damaged",
            path.display()
        ));
    }
    let mut packed = Vec::with_capacity(count as usize);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    file.take(count).read_to_end(&mut packed).map_err(failed)?;
    Ok(Some(packed))
}

/// Where chunk `within` lies in a shard: offset and length.
fn in_shard(
    file: &mut File,
    info: &ArrayInfo,
    length: u64,
    count: usize,
    within: usize,
) -> Result<Option<(u64, u64)>, String> {
    let index = count as u64 * 16 + if info.index.has_checksum { 4 } else { 0 };
    let start = match info.index.is_first {
        true => Some(0),
        false => length.checked_sub(index),
    };
    let start = start
        .filter(|start| start + index <= length)
        .ok_or("a shard is shorter than its index")?;
    let mut entry = [0; 16];
    file.seek(SeekFrom::Start(start + within as u64 * 16))
        .and_then(|_| file.read_exact(&mut entry))
        .map_err(|error| error.to_string())?;
    let [offset, size] = [0, 8].map(|at| {
        let mut number = [0; 8];
        number.copy_from_slice(&entry[at..at + 8]);
        u64::from_le_bytes(number)
    });
    Ok((offset != u64::MAX || size != u64::MAX).then_some((offset, size)))
}

/// The name of a chunk's file.
pub(super) fn name(info: &ArrayInfo, place: &[usize]) -> PathBuf {
    let numbers: Vec<String> = place.iter().map(usize::to_string).collect();
    let numbers = numbers.join(&info.separator.to_string());
    PathBuf::from(match info.prefix {
        "" => numbers,
        prefix => format!("{prefix}{}{numbers}", info.separator),
    })
}

/// Castagnoli's checksum (RFC 3720, appendix B.4).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| {
            crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
