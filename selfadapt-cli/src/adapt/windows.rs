//! Images too large to be prepared as a whole: windows on an even lattice stand for them, cut in one pass over the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use ndarray::Array3;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::io::{self, Axes};
use selfadapt_core::model::ModelConfig;

/// Windows of all large images together, about; those of one are between the squares of [`LEAST`] and [`MOST`].
const TOGETHER: usize = 256;
const LEAST: usize = 2;
const MOST: usize = 8;

/// Sides of a crop that a window has: crops of many places are drawn from each.
const CROPS: usize = 2;

/// Windows a side of each of `images` large images.
pub fn a_side(images: usize) -> usize {
    (TOGETHER / images.max(1)).isqrt().clamp(LEAST, MOST)
}

/// Cuts windows, and keeps them in an unnamed file: a second pass over a slide for each crop would take longer than the steps.
#[derive(Debug)]
pub struct Windows {
    /// Where the unnamed file is made.
    folder: PathBuf,
    kept: Option<File>,
    /// Of each image that was asked for, where its windows lie, or what is wrong with it.
    cut: BTreeMap<PathBuf, std::result::Result<Vec<Kept>, String>>,
    a_side: usize,
    /// Side of a window in working pixels, where the image is as large.
    side: usize,
}

/// A window in the unnamed file.
#[derive(Clone, Copy, Debug)]
struct Kept {
    at: u64,
    shape: (usize, usize, usize),
}

impl Windows {
    /// Windows of `a_side * a_side` an image for crops of `crop` working pixels, kept in an unnamed file in `folder`.
    pub fn new(folder: &Path, a_side: usize, crop: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            kept: None,
            cut: BTreeMap::new(),
            a_side,
            side: CROPS * crop,
        }
    }

    /// Window `index` of an image, `[C, rows, columns]`: the numbers that the whole image, prepared, has there.
    ///
    /// # Errors
    /// If the image cannot be read, does not suit the model, or the disk is full.
    pub fn prepared(
        &mut self,
        path: &Path,
        index: usize,
        axes: &Axes,
        model: &dyn ModelConfig,
        scale: f64,
    ) -> Result<Tensor> {
        if !self.cut.contains_key(path) {
            let cut = match self.cut(path, axes, model, scale) {
                // A full disk is no fault of the image's.
                Err(error @ Error::Write { .. }) => return Err(error),
                other => other.map_err(|error| error.to_string()),
            };
            self.cut.insert(path.to_owned(), cut);
        }
        let kept = match &self.cut[path] {
            Ok(windows) => windows.get(index).copied(),
            Err(reason) => return Err(Error::read(path, reason)),
        };
        let kept =
            kept.ok_or_else(|| Error::read(path, format!("there is no window {index} in it")))?;
        self.read(kept)
    }

    fn cut(
        &mut self,
        path: &Path,
        axes: &Axes,
        model: &dyn ModelConfig,
        scale: f64,
    ) -> Result<Vec<Kept>> {
        tracing::info!(
            "{}: {} windows of it are cut",
            path.display(),
            self.a_side * self.a_side
        );
        let (mut image, _) = io::open_parts(path, axes)?;
        let mut prepared = model
            .prepare_parts(image.as_mut(), scale)?
            .ok_or_else(|| Error::Image("this model takes whole images only".into()))?;
        let (height, width) = prepared.size();
        let mut windows = Vec::new();
        for rows in lattice(height, self.a_side, self.side) {
            for columns in lattice(width, self.a_side, self.side) {
                let window = prepared.read(rows.clone(), columns)?;
                windows.push(self.keep(&window)?);
            }
        }
        Ok(windows)
    }

    fn keep(&mut self, window: &Array3<f32>) -> Result<Kept> {
        let folder = &self.folder;
        let failed = |e: std::io::Error| Error::write(folder, e);
        let file = match &mut self.kept {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(folder).map_err(failed)?),
        };
        let at = file.seek(SeekFrom::End(0)).map_err(failed)?;
        let bytes: Vec<u8> = window
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        file.write_all(&bytes).map_err(failed)?;
        Ok(Kept {
            at,
            shape: window.dim(),
        })
    }

    fn read(&mut self, kept: Kept) -> Result<Tensor> {
        let folder = &self.folder;
        let failed = |e: std::io::Error| Error::write(folder, e);
        let missing = || failed(std::io::ErrorKind::NotFound.into());
        let file = self.kept.as_mut().ok_or_else(missing)?;
        let (channels, height, width) = kept.shape;
        let mut bytes = vec![0; channels * height * width * size_of::<f32>()];
        file.seek(SeekFrom::Start(kept.at)).map_err(failed)?;
        file.read_exact(&mut bytes).map_err(failed)?;
        let (values, _) = bytes.as_chunks::<{ size_of::<f32>() }>();
        let values: Vec<f32> = values
            .iter()
            .map(|&value| f32::from_le_bytes(value))
            .collect();
        Ok(Tensor::from_vec(values, kept.shape, &Device::Cpu)?)
    }
}

/// `count` ranges of `side` (or of the whole length, if that is less), spread evenly over `length`.
fn lattice(length: usize, count: usize, side: usize) -> impl Iterator<Item = Range<usize>> {
    let side = side.min(length);
    let free = length - side;
    (0..count).map(move |index| {
        // In the middle of the index-th of `count` equal parts, as far as it fits.
        let middle = (2 * index + 1) * length / (2 * count);
        let start = middle.saturating_sub(side / 2).min(free);
        start..start + side
    })
}

/// Of nine places in a large image the one where most is to be seen, in file units: enough to tell the size of cells by.
///
/// # Errors
/// If the image cannot be read.
pub fn liveliest(path: &Path, axes: &Axes) -> Result<Image> {
    const SIDE: usize = 1024;
    let (mut image, _) = io::open_parts(path, axes)?;
    let (height, width) = image.size();
    let mut best: Option<(f64, Array3<f32>)> = None;
    for rows in lattice(height, 3, SIDE) {
        for columns in lattice(width, 3, SIDE) {
            let pixels = image.read(rows.clone(), columns)?;
            let spread = f64::from(pixels.std(0.));
            if best.as_ref().is_none_or(|(most, _)| spread > *most) {
                best = Some((spread, pixels));
            }
        }
    }
    let (_, pixels) = best.ok_or_else(|| Error::read(path, "it has no pixels"))?;
    Image::new(pixels, PixelType::Float)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_models::cellpose::CellposeConfig;

    #[test]
    fn windows_are_those_of_the_whole_image_and_are_cut_once() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("a.tif");
        io::tiff::write_labels(&path, (300, 200), 60_000, &mut |row, line: &mut [u32]| {
            for (column, value) in line.iter_mut().enumerate() {
                *value = ((7 * row + 13 * column) % 501) as u32;
            }
            Ok(())
        })
        .unwrap();
        let (axes, model, scale) = (Axes::default(), CellposeConfig::default(), 0.7);
        let whole = model
            .prepare(&io::read(&path, &axes).unwrap().0, scale)
            .unwrap();
        let mut windows = Windows::new(here.path(), 2, 32);
        for index in [3, 0, 1, 2, 3] {
            let window = windows
                .prepared(&path, index, &axes, &model, scale)
                .unwrap();
            let at = |length, index| lattice(length, 2, 64).nth(index).unwrap();
            let (rows, columns) = (at(210, index / 2), at(140, index % 2));
            let expected = whole.narrow(1, rows.start, 64).unwrap();
            let expected = expected.narrow(2, columns.start, 64).unwrap();
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(&window), values(&expected), "window {index}");
            // From here on they are read from where they are kept.
            if path.exists() {
                std::fs::remove_file(&path).unwrap();
            }
        }
        let missing = windows.prepared(&path, 4, &axes, &model, scale);
        assert!(missing.unwrap_err().to_string().contains("no window 4"));
    }

    #[test]
    fn windows_are_spread_evenly_and_stay_inside() {
        let ranges = |length, count, side| lattice(length, count, side).collect::<Vec<_>>();
        assert_eq!(ranges(100, 2, 20), [15..35, 65..85]);
        assert_eq!(ranges(10, 2, 20), [0..10, 0..10]);
        assert_eq!(ranges(30, 2, 28), [0..28, 2..30]);
        assert_eq!((a_side(1), a_side(16), a_side(10_000)), (8, 4, 2));
    }
}
