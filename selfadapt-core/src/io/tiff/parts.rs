//! A plane of a TIFF file read in parts: only the strips and tiles that are asked for are decoded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use ndarray::Array3;

use super::super::axes::{Axes, Axis, Layout};
use super::super::sample::Endian;
use super::super::select::Selection;
use super::chunks::{self, Place};
use super::directory::Page;
use super::{Opened, open, page_of};
use crate::error::{Error, Result};
use crate::parts::ImageParts;

/// Bytes of pixels above which a compressed strip is too large to be a part.
const LARGEST_CHUNK: usize = 256 << 20;

/// Bytes that a strip of a file without compression is cut into.
const CUT: usize = 4 << 20;

/// An open file and the chunks decoded last.
#[derive(Debug)]
pub struct TiffParts {
    path: PathBuf,
    file: BufReader<File>,
    endian: Endian,
    /// Page and sample of each channel.
    channels: Vec<(Page, usize)>,
    /// Decoded chunks by channel and place; those of one page that hold all its samples lie at its first channel.
    decoded: BTreeMap<(usize, usize), Vec<f32>>,
}

/// The size `(height, width)` of the plane that `wish` chooses; reads no pixel.
pub fn size(path: &Path, wish: &Axes) -> Result<(usize, usize)> {
    let find = || -> std::result::Result<_, String> {
        let Opened {
            layout, selection, ..
        } = open(path, wish)?;
        let (_, height, width) = selection.shape(&layout);
        Ok((height, width))
    };
    find().map_err(|reason| Error::read(path, reason))
}

impl TiffParts {
    /// Opens the plane that `wish` chooses, and checks that the file can hold it.
    ///
    /// # Errors
    /// As of reading the whole, and if its axes or strips do not allow for parts.
    pub(in crate::io) fn open(path: &Path, wish: &Axes) -> Result<(Self, Layout, Selection)> {
        let make = || -> std::result::Result<_, String> {
            let Opened {
                file,
                length,
                contents,
                stack,
                layout,
                selection,
            } = open(path, wish)?;
            let outer = stack.axes.len();
            if layout.axes.get(selection.y) != Some(&Axis::Y)
                || layout.axes.get(selection.x) != Some(&Axis::X)
            {
                return Err(format!(
                    "its rows and columns are not those of its pages ({}), so it cannot be read in parts",
                    layout.describe()
                ));
            }
            let count = selection.channel.map_or(1, |axis| layout.sizes[axis]);
            let mut channels = Vec::with_capacity(count);
            for channel in 0..count {
                let at = |axis: usize| {
                    if Some(axis) == selection.channel {
                        channel
                    } else {
                        selection.at[axis]
                    }
                };
                let position =
                    (0..outer).fold(0, |position, axis| position * layout.sizes[axis] + at(axis));
                let sample = (outer..layout.sizes.len())
                    .find(|&axis| layout.axes[axis] == Axis::Channel)
                    .map_or(0, at);
                let page = page_of(&contents, &stack, position)?;
                if !page.like(page_of(&contents, &stack, 0)?) {
                    return Err(format!("page {position} differs from the first"));
                }
                chunks::check(page, length)?;
                channels.push((in_small_strips(page)?, sample));
            }
            let parts = Self {
                path: path.to_owned(),
                file,
                endian: contents.endian,
                channels,
                decoded: BTreeMap::new(),
            };
            Ok((parts, layout, selection))
        };
        make().map_err(|reason| Error::read(path, reason))
    }

    fn page(&self) -> &Page {
        &self.channels[0].0
    }

    /// The channel under which the chunks of `channel` are kept.
    fn owner(&self, channel: usize) -> usize {
        let page = &self.channels[channel].0;
        if page.planar {
            return channel;
        }
        let same = |(other, _): &(Page, usize)| other.offsets == page.offsets;
        self.channels.iter().position(same).unwrap_or(channel)
    }

    fn gather(
        &mut self,
        rows: &Range<usize>,
        columns: &Range<usize>,
    ) -> std::result::Result<Array3<f32>, String> {
        let mut pixels = Array3::zeros((self.channels.len(), rows.len(), columns.len()));
        // What lies above will not be asked for again.
        let pages: Vec<Page> = self.channels.iter().map(|(page, _)| page.clone()).collect();
        self.decoded.retain(|&(channel, index), _| {
            let page = &pages[channel];
            chunks::place(page, index).top + chunks::rows(page, index) > rows.start
        });
        for (channel, page) in pages.iter().enumerate() {
            let (owner, sample) = (self.owner(channel), self.channels[channel].1);
            let samples = if page.planar { 1 } else { page.samples };
            let across = page.width.div_ceil(page.chunk.0);
            let plane = if page.planar {
                sample * across * page.height.div_ceil(page.chunk.1)
            } else {
                0
            };
            for down in rows.start / page.chunk.1..rows.end.div_ceil(page.chunk.1) {
                for over in columns.start / page.chunk.0..columns.end.div_ceil(page.chunk.0) {
                    let index = plane + down * across + over;
                    if !self.decoded.contains_key(&(owner, index)) {
                        let chunk = chunks::chunk(&mut self.file, page, index, self.endian)?;
                        self.decoded.insert((owner, index), chunk);
                    }
                    let Some(chunk) = self.decoded.get(&(owner, index)) else {
                        continue;
                    };
                    let Place { top, left, .. } = chunks::place(page, index);
                    let offset = if page.planar { 0 } else { sample };
                    for y in rows.start.max(top)..rows.end.min(top + chunks::rows(page, index)) {
                        let line = &chunk[(y - top) * page.chunk.0 * samples..];
                        for x in columns.start.max(left)..columns.end.min(left + page.chunk.0) {
                            pixels[[channel, y - rows.start, x - columns.start]] =
                                line[(x - left) * samples + offset];
                        }
                    }
                }
            }
        }
        Ok(pixels)
    }
}

impl ImageParts for TiffParts {
    fn size(&self) -> (usize, usize) {
        (self.page().height, self.page().width)
    }

    fn channels(&self) -> usize {
        self.channels.len()
    }

    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>> {
        let (height, width) = self.size();
        if rows.end > height || columns.end > width || rows.is_empty() || columns.is_empty() {
            return Err(Error::Image(format!(
                "rows {rows:?} and columns {columns:?} lie beyond {height} x {width} pixels"
            )));
        }
        self.gather(&rows, &columns)
            .map_err(|reason| Error::read(&self.path, reason))
    }
}

/// A page without compression in strips of a few megabytes, whatever strips the file names.
fn in_small_strips(page: &Page) -> std::result::Result<Page, String> {
    let stride = chunks::row_bytes(page).ok_or("a row has too many bytes")?;
    let bytes = stride.saturating_mul(page.chunk.1);
    if page.compression != 1 || page.padded || bytes <= CUT {
        if bytes > LARGEST_CHUNK {
            return Err(format!(
                "one strip or tile of it has {} x {} pixels and is compressed as a whole, so it cannot be read in parts; \
                 save it with tiles, for example with tifffile.imwrite(..., tile=(512, 512))",
                page.chunk.1, page.chunk.0
            ));
        }
        return Ok(page.clone());
    }
    let rows = (CUT / stride).clamp(1, page.height);
    let strips = page.height.div_ceil(page.chunk.1);
    let planes = if page.planar { page.samples } else { 1 };
    let mut small = Page {
        chunk: (page.chunk.0, rows),
        offsets: Vec::new(),
        counts: Vec::new(),
        ..page.clone()
    };
    // A small strip must not reach into the next large one.
    if strips > 1 && !page.chunk.1.is_multiple_of(rows) {
        let rows = (1..=rows)
            .rev()
            .find(|&rows| page.chunk.1.is_multiple_of(rows));
        small.chunk.1 = rows.unwrap_or(1);
    }
    let rows = small.chunk.1;
    for plane in 0..planes {
        for top in (0..page.height).step_by(rows) {
            let large = plane * strips + top / page.chunk.1;
            let within = (top % page.chunk.1) * stride;
            let start = page.offsets.get(large).copied().unwrap_or(0);
            small.offsets.push(start.saturating_add(within as u64));
            small
                .counts
                .push((rows.min(page.height - top) * stride) as u64);
        }
    }
    Ok(small)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::tiff;

    #[test]
    fn parts_are_those_of_the_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/images");
        for name in [
            "u16_tiles.tif",
            "u16_strips.tif",
            "u16_lzw_predictor2.tif",
            "rgb_interleaved.tif",
            "rgb_planar_tiles.tif",
            "imagej_cyx.tif",
            "ome_cyx.tif",
            "bigtiff.tif",
            "bits12.tif",
        ] {
            let path = folder.join(name);
            let (whole, ..) = tiff::read::<f32>(&path, &Axes::default()).unwrap();
            let (mut parts, ..) = TiffParts::open(&path, &Axes::default()).unwrap();
            let (channels, height, width) = whole.dim();
            assert_eq!(
                (parts.channels(), parts.size()),
                (channels, (height, width))
            );
            assert_eq!(size(&path, &Axes::default()).unwrap(), (height, width));
            for (top, bottom) in [(0, 1), (0, height), (2, 5), (height - 1, height)] {
                for (left, right) in [(0, width), (2, 5), (width - 1, width)] {
                    let part = parts.read(top..bottom, left..right).unwrap();
                    let expected = |(c, y, x)| whole[[c, top + y, left + x]];
                    let size = (channels, bottom - top, right - left);
                    assert_eq!(part, Array3::from_shape_fn(size, expected), "{name}");
                }
            }
            assert!(parts.read(0..height + 1, 0..1).is_err());
        }
    }

    #[test]
    fn large_strips_without_compression_are_cut() {
        let page = Page {
            width: 1 << 20,
            height: 50,
            samples: 1,
            planar: false,
            bits: 16,
            dtype: super::super::super::sample::Dtype::U16,
            compression: 1,
            predictor: 1,
            chunk: (1 << 20, 12),
            padded: false,
            offsets: vec![100, 100_000_000, 200_000_000, 300_000_000, 400_000_000],
            counts: vec![12 << 21, 12 << 21, 12 << 21, 12 << 21, 2 << 21],
        };
        let small = in_small_strips(&page).unwrap();
        assert_eq!(small.chunk.1, 2);
        assert_eq!(small.offsets.len(), 25);
        assert_eq!(small.offsets[7], 100_000_000 + (2 << 21));
        assert_eq!(small.counts[24], 2 << 21);
        let packed = Page {
            compression: 8,
            chunk: (1 << 20, 500),
            height: 500,
            ..page
        };
        let error = in_small_strips(&packed).unwrap_err();
        assert!(error.contains("with tiles"), "{error}");
    }
}
