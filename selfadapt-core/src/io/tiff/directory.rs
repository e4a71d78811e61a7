//! The directories of a TIFF file: one page each, as its tags describe it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;

use tiff::decoder::{Decoder, Limits};
use tiff::tags::Tag;

use super::super::sample::{Dtype, Endian};

/// One page: its geometry, its number type, and where its strips or tiles lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub width: usize,
    pub height: usize,
    /// Samples per pixel.
    pub samples: usize,
    /// Each sample has its own strips or tiles.
    pub planar: bool,
    /// Bits per sample as stored; `dtype` is what they become.
    pub bits: usize,
    pub dtype: Dtype,
    pub compression: u16,
    pub predictor: u16,
    /// Width and height of a strip or tile.
    pub chunk: (usize, usize),
    /// Whether the last chunks are stored in full size (tiles) or cut (strips).
    pub padded: bool,
    pub offsets: Vec<u64>,
    pub counts: Vec<u64>,
}

impl Page {
    /// Whether two pages can belong to one stack.
    pub fn like(&self, other: &Page) -> bool {
        (self.width, self.height, self.samples, self.dtype)
            == (other.width, other.height, other.samples, other.dtype)
    }
}

/// All pages of the main chain, and the description of the first.
pub(super) struct Contents {
    pub pages: Vec<Page>,
    pub description: String,
    pub endian: Endian,
}

/// More directories than this point to a damaged file.
const MOST_PAGES: usize = 1 << 20;

/// Reads every directory of the main chain; reads no pixel.
///
/// # Errors
/// A sentence, if the file is no TIFF or a directory lacks what a page needs.
pub(super) fn read(file: &mut BufReader<File>, length: u64) -> Result<Contents, String> {
    let mut decoder = Decoder::new(&mut *file).map_err(explain)?;
    let mut limits = Limits::default();
    // OME descriptions and offsets of many tiles exceed the usual megabyte, but not the file.
    limits.ifd_value_size = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 28);
    decoder = decoder.with_limits(limits);
    let endian = match decoder.byte_order() {
        tiff::tags::ByteOrder::LittleEndian => Endian::Little,
        tiff::tags::ByteOrder::BigEndian => Endian::Big,
    };
    let mut next = decoder.ifd_pointer();
    let mut seen = BTreeSet::new();
    let mut contents = Contents {
        pages: Vec::new(),
        description: String::new(),
        endian,
    };
    while let Some(pointer) = next {
        if !seen.insert(pointer.0) || contents.pages.len() == MOST_PAGES {
            return Err("its directories run in a circle; the file is damaged".to_owned());
        }
        let number = contents.pages.len();
        let directory = decoder
            .read_directory(pointer)
            .map_err(|error| format!("page {number}: {}", explain(error)))?;
        next = directory.next();
        let mut tags = decoder.read_directory_tags(&directory);
        if number == 0
            && let Some(entry) = tags.find_entry(Tag::ImageDescription)
        {
            let mut text = vec![0; usize::try_from(entry.count().min(length)).unwrap_or(0)];
            let read = tags
                .find_tag_bytes(Tag::ImageDescription, &mut text, 0)
                .map_err(explain)?;
            text.truncate(read.unwrap_or(0));
            // ImageJ writes units such as the micro sign in its own encoding; the keys are ASCII.
            let text = String::from_utf8_lossy(&text);
            text.trim_end_matches('\0')
                .clone_into(&mut contents.description);
        }
        let page = page(&mut tags).map_err(|reason| format!("page {number}: {reason}"))?;
        contents.pages.push(page);
    }
    Ok(contents)
}

fn page(tags: &mut tiff::decoder::IfdDecoder<'_>) -> Result<Page, String> {
    let mut number = |tag: Tag, default: Option<u64>| -> Result<u64, String> {
        match tags
            .find_tag_unsigned_vec::<u64>(tag)
            .map_err(explain)?
            .as_deref()
        {
            Some([first, rest @ ..]) if rest.iter().all(|value| value == first) => Ok(*first),
            Some(values) => Err(format!("expected one value of {tag:?}, found {values:?}")),
            None => default.ok_or_else(|| format!("there is no {tag:?}")),
        }
    };
    let size = |value: u64| usize::try_from(value).map_err(|_| "too large".to_owned());
    let (width, height) = (
        size(number(Tag::ImageWidth, None)?)?,
        size(number(Tag::ImageLength, None)?)?,
    );
    let samples = size(number(Tag::SamplesPerPixel, Some(1))?)?;
    if width == 0 || height == 0 || samples == 0 {
        return Err(format!(
            "expected pixels, found {height} x {width} with {samples} samples"
        ));
    }
    let bits = size(number(Tag::BitsPerSample, Some(1))?)?;
    let dtype = dtype(number(Tag::SampleFormat, Some(1))?, bits)?;
    if number(Tag::FillOrder, Some(1))? != 1 {
        return Err("its bits run backwards (FillOrder 2); save it anew".to_owned());
    }
    let short = |value: u64| {
        u16::try_from(value).map_err(|_| format!("the tag value {value} is too large"))
    };
    let compression = short(number(Tag::Compression, Some(1))?)?;
    let predictor = short(number(Tag::Predictor, Some(1))?)?;
    let planar = number(Tag::PlanarConfiguration, Some(1))? == 2 && samples > 1;
    let rows = size(number(Tag::RowsPerStrip, Some(height as u64))?)?.min(height);
    let tile = match number(Tag::TileWidth, Some(0))? {
        0 => None,
        tile_width => Some((size(tile_width)?, size(number(Tag::TileLength, None)?)?)),
    };
    let (offsets, counts) = match tile {
        Some(_) => (Tag::TileOffsets, Tag::TileByteCounts),
        None => (Tag::StripOffsets, Tag::StripByteCounts),
    };
    let mut list = |tag: Tag| {
        tags.find_tag_unsigned_vec::<u64>(tag)
            .map_err(explain)?
            .ok_or_else(|| format!("there is no {tag:?}"))
    };
    let chunk = tile.unwrap_or((width, rows));
    if chunk.0 == 0 || chunk.1 == 0 {
        return Err(format!(
            "expected strips or tiles with pixels, found {} x {}",
            chunk.1, chunk.0
        ));
    }
    let page = Page {
        width,
        height,
        samples,
        planar,
        bits,
        dtype,
        compression,
        predictor,
        chunk,
        padded: tile.is_some(),
        offsets: list(offsets)?,
        counts: list(counts)?,
    };
    let per_plane = width
        .div_ceil(chunk.0)
        .saturating_mul(height.div_ceil(chunk.1));
    let expected = per_plane.saturating_mul(if planar { samples } else { 1 });
    if page.offsets.len() != expected || page.counts.len() != expected {
        return Err(format!(
            "expected {expected} strips or tiles, found {} offsets and {} lengths",
            page.offsets.len(),
            page.counts.len()
        ));
    }
    Ok(page)
}

fn dtype(format: u64, bits: usize) -> Result<Dtype, String> {
    Ok(match (format, bits) {
        (1 | 4, 1..=8) => Dtype::U8,
        (1 | 4, 9..=16) => Dtype::U16,
        (1 | 4, 32) => Dtype::U32,
        (1 | 4, 64) => Dtype::U64,
        (2, 8) => Dtype::I8,
        (2, 16) => Dtype::I16,
        (2, 32) => Dtype::I32,
        (2, 64) => Dtype::I64,
        (3, 16) => Dtype::F16,
        (3, 32) => Dtype::F32,
        (3, 64) => Dtype::F64,
        (5 | 6, _) => return Err("it holds complex numbers; save their magnitude".to_owned()),
        _ => {
            return Err(format!(
                "expected samples of 8, 16, 32 or 64 bits, found {bits} bits of format {format}; \
                 convert it, for example in ImageJ by Image > Type > 16-bit"
            ));
        }
    })
}

/// The TIFF library's complaint, with a guess at the reason.
pub(super) fn explain(error: tiff::TiffError) -> String {
    match error {
        tiff::TiffError::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file ends too early; it is empty or was cut off while copying".to_owned()
        }
        other => other.to_string(),
    }
}
