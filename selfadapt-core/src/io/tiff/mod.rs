//! TIFF files: strips and tiles, planar or interleaved, ImageJ and OME stacks, BigTIFF.

mod chunks;
mod directory;
mod parts;
mod stack;
mod write;
mod write_tiles;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ndarray::Array3;

pub(in crate::io) use parts::{TiffParts, size};
pub use write::{Pixel, write, write_rgb};
pub use write_tiles::write_labels;

use super::axes::{Axes, Axis, Layout};
use super::sample::Sample;
use super::select::Selection;
use crate::error::{Error, Result};
use directory::{Contents, Page};
use stack::Stack;

/// Reads one plane `[C, H, W]`; only the pages that it needs are decoded.
///
/// # Errors
/// If the file is no TIFF, is cut off, claims more pixels than it can hold, or holds a stack and `wish` does not
/// say which plane.
pub(super) fn read<T: Sample>(path: &Path, wish: &Axes) -> Result<(Array3<T>, Layout, Selection)> {
    let read = || -> Result<_, String> {
        let mut opened = open(path, wish)?;
        let pixels = decode(&mut opened)?;
        Ok((pixels, opened.layout, opened.selection))
    };
    read().map_err(|reason| Error::read(path, reason))
}

/// An open file whose plane is chosen, before any pixel is read.
struct Opened {
    file: BufReader<File>,
    length: u64,
    contents: Contents,
    stack: Stack,
    layout: Layout,
    selection: Selection,
}

fn open(path: &Path, wish: &Axes) -> Result<Opened, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut contents = directory::read(&mut file, length)?;
    let stack = stack::describe(&contents)?;
    unfold(&mut contents, &stack, length)?;
    let layout = layout(&contents, &stack)?;
    let selection = Selection::choose(&layout, wish)?;
    Ok(Opened {
        file,
        length,
        contents,
        stack,
        layout,
        selection,
    })
}

/// Where the planes follow each other after one directory (ImageJ beyond 4 GB, tifffile's truncated stacks),
/// gives each a page of its own.
fn unfold(contents: &mut Contents, stack: &Stack, length: u64) -> Result<(), String> {
    let first = page_of(contents, stack, 0)?;
    if stack.promised <= stack.pages.len() {
        return Ok(());
    }
    let numbers = [first.height, first.samples, first.dtype.size()];
    let bytes = numbers
        .into_iter()
        .try_fold(first.width, |product, factor| product.checked_mul(factor))
        .ok_or("its pages have too many pixels")?;
    let promised = (bytes as u64).checked_mul(stack.promised as u64);
    // Before a page is made for each.
    if promised.is_none_or(|promised| promised > length) {
        return Err(format!(
            "its description promises {} planes of {bytes} bytes, but the file has {length} bytes; it was cut off",
            stack.promised
        ));
    }
    let in_one_piece = first
        .offsets
        .windows(2)
        .zip(&first.counts)
        .all(|(o, &n)| o[0].checked_add(n) == Some(o[1]));
    let whole = first.bits == first.dtype.size() * 8 && !first.padded && !first.planar;
    if stack.pages.len() != 1 || first.compression != 1 || !in_one_piece || !whole {
        return Err(format!(
            "its description promises {} planes, but it holds {} pages; save it anew",
            stack.promised,
            stack.pages.len()
        ));
    }
    let first = Page {
        chunk: (first.width, first.height),
        ..first.clone()
    };
    let start = first.offsets.first().copied().unwrap_or(0);
    contents.pages = (0..stack.promised)
        .map(|plane| Page {
            offsets: vec![start.saturating_add((plane as u64).saturating_mul(bytes as u64))],
            counts: vec![bytes as u64],
            ..first.clone()
        })
        .collect();
    Ok(())
}

/// The page behind each position of the stack's axes.
fn page_of<'a>(contents: &'a Contents, stack: &Stack, position: usize) -> Result<&'a Page, String> {
    let index = if stack.promised > stack.pages.len() {
        Some(position)
    } else {
        stack.pages.get(position).copied()
    };
    index
        .and_then(|index| contents.pages.get(index))
        .ok_or_else(|| format!("there is no page for plane {position}"))
}

fn layout(contents: &Contents, stack: &Stack) -> Result<Layout, String> {
    let page = page_of(contents, stack, 0)?;
    let inner: &[(Axis, usize)] = match (page.samples, page.planar) {
        (1, _) => &[(Axis::Y, page.height), (Axis::X, page.width)],
        (samples, false) => &[
            (Axis::Y, page.height),
            (Axis::X, page.width),
            (Axis::Channel, samples),
        ],
        (samples, true) => &[
            (Axis::Channel, samples),
            (Axis::Y, page.height),
            (Axis::X, page.width),
        ],
    };
    let all = || stack.axes.iter().chain(inner);
    Ok(Layout {
        sizes: all().map(|&(_, size)| size).collect(),
        axes: all().map(|&(axis, _)| axis).collect(),
        origin: stack.origin,
        dtype: page.dtype,
    })
}

fn decode<T: Sample>(opened: &mut Opened) -> Result<Array3<T>, String> {
    let Opened {
        file,
        length,
        contents,
        stack,
        layout,
        selection,
    } = opened;
    let outer = stack.axes.len();
    let channel = selection.channel.filter(|&axis| axis < outer);
    let first = page_of(contents, stack, 0)?;
    let mut pixels = Vec::new();
    for c in 0..channel.map_or(1, |axis| layout.sizes[axis]) {
        let position = (0..outer).fold(0, |position, axis| {
            let at = if Some(axis) == channel {
                c
            } else {
                selection.at[axis]
            };
            position * layout.sizes[axis] + at
        });
        let page = page_of(contents, stack, position)?;
        if !page.like(first) {
            return Err(format!(
                "page {position} is {} x {}, but the first is {} x {}; save them as separate files",
                page.height, page.width, first.height, first.width
            ));
        }
        chunks::check(page, *length)?;
        let decoded = chunks::decode(file, page, contents.endian)?;
        if pixels.is_empty() {
            pixels = decoded;
        } else {
            pixels.extend(decoded);
        }
    }
    // Only the wanted pages were read: of the outer axes just the channels are left.
    let mut sizes = layout.sizes.clone();
    let mut at = selection.at.clone();
    for axis in 0..outer {
        at[axis] = 0;
        if Some(axis) != channel {
            sizes[axis] = 1;
        }
    }
    Selection {
        at,
        ..selection.clone()
    }
    .cut(&sizes, pixels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;
    use proptest::prelude::*;

    /// Writes planes, reads each of them and all of them as channels, and compares.
    fn there_and_back<P>(planes: &Array3<P>, exact: impl Fn(P) -> f64)
    where
        P: Pixel + Copy,
        [P]: tiff::encoder::TiffValue,
    {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        write(&path, planes.view()).unwrap();
        let expected = planes.mapv(exact);
        let count = planes.dim().0;
        let channels = Axes {
            channel_axis: (count > 1).then_some(0),
            plane: None,
        };
        let (all, layout, _) = read::<f64>(&path, &channels).unwrap();
        assert_eq!(all, expected);
        assert_eq!(layout.dtype.size(), size_of::<P>());
        for plane in 0..count {
            let wish = Axes {
                channel_axis: None,
                plane: Some(plane),
            };
            let (one, ..) = read::<f64>(&path, &wish).unwrap();
            assert_eq!(
                one.index_axis(ndarray::Axis(0), 0),
                expected.index_axis(ndarray::Axis(0), plane)
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_written_is_read(
            (n, h, w) in (1..5_usize, 1..40_usize, 1..40_usize),
            seed in any::<u32>(),
        ) {
            let raw = |(c, y, x): (usize, usize, usize)| {
                (c as u32 * 7919 + y as u32 * 613 + x as u32).wrapping_mul(seed | 1)
            };
            there_and_back(&Array3::from_shape_fn((n, h, w), |at| raw(at) as u8), f64::from);
            there_and_back(&Array3::from_shape_fn((n, h, w), |at| raw(at) as u16), f64::from);
            there_and_back(&Array3::from_shape_fn((n, h, w), raw), f64::from);
            let float = |at| f32::from_bits(raw(at) & 0xbf7f_ffff);
            there_and_back(&Array3::from_shape_fn((n, h, w), float), f64::from);
        }
    }

    #[test]
    fn odd_shapes() {
        // Several strips of a wide image, a single pixel, a constant image.
        there_and_back(
            &Array3::from_shape_fn((1, 30, 40_000), |(_, y, x)| (x * 3 + y) as u16),
            f64::from,
        );
        there_and_back(&Array3::from_elem((1, 1, 1), f32::MIN_POSITIVE), f64::from);
        there_and_back(&Array3::from_elem((1, 700, 700), 5_u8), f64::from);
        let folder = tempfile::tempdir().unwrap();
        let empty = write(
            folder.path().join("a.tif"),
            Array3::<u8>::zeros((1, 0, 4)).view(),
        );
        assert!(empty.unwrap_err().to_string().contains("expected pixels"));
    }

    #[test]
    fn nan_and_infinity_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        write(
            &path,
            ndarray::array![[[1.0, f32::NAN], [f32::INFINITY, -2.0]]].view(),
        )
        .unwrap();
        let (back, ..) = read::<f32>(&path, &Axes::default()).unwrap();
        assert!(back[[0, 0, 1]].is_nan() && back[[0, 1, 0]] == f32::INFINITY);
    }
}
