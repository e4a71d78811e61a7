//! The sets of ACTIS (Rumberger et al., ICCVW 2023), as they lie in its repository: Flywing, Mouse, DSB2018.

use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3};

use super::choose::{choose_split, missing, plain_name};
use super::files::{Files, name};
use super::items::Item;
use super::npz::Archive;
use super::tissuenet::labels;
use super::{Dataset, Kind, LeftOut, Sample, Source, Split, Wish};
use crate::error::{Error, Result};
use crate::image::{Image, PixelType};
use crate::io::sample::Dtype;

/// Whether a folder holds one.
pub(super) fn fits(files: &Files) -> bool {
    ["train", "test"]
        .iter()
        .any(|part| !find(files, part).is_empty())
}

/// `test/test_data.npz`; the validation images are in the archive of the training ones.
fn find<'a>(files: &'a Files, part: &str) -> Vec<&'a Path> {
    let wanted = format!("{part}_data.npz");
    files.named(|name| name == wanted)
}

/// The file that a split lies in.
fn part(split: Split) -> &'static str {
    match split {
        Split::Train | Split::Val => "train",
        Split::Test => "test",
    }
}

/// Opens a split: the arrays `X_test` and `Y_test` and so on, images `(images, rows, columns)` with or without channels at
/// the end, or an array of such images of different sizes.
pub(super) fn open(files: &Files, wish: &Wish) -> Result<Dataset> {
    let there: Vec<Split> = Split::ALL
        .into_iter()
        .filter(|&split| !find(files, part(split)).is_empty())
        .collect();
    let split = choose_split(Kind::Actis, files, &there, wish.split)?;
    let path = match find(files, part(split)).as_slice() {
        &[only] => only.to_owned(),
        [] => return Err(missing(Kind::Actis, files, "no archive")),
        many => {
            let sets: Vec<String> = many.iter().map(|path| set(path)).collect();
            return Err(Error::Setting(format!(
                "{} holds several sets: {}; name the folder of one of them",
                files.root().display(),
                sets.join(", ")
            )));
        }
    };
    let fail = |reason: String| Error::read(&path, reason);
    let archive = Archive::open(&path).map_err(fail)?;
    let arrays = [format!("X_{}", split.name()), format!("Y_{}", split.name())];
    if let Some(lacking) = arrays.iter().find(|name| !archive.has(name)) {
        return Err(fail(format!(
            "expected the arrays {}, found {} and so no {lacking}",
            arrays.join(" and "),
            archive.names().join(", ")
        )));
    }
    let shape = |name: &str| archive.shape(name).map_err(fail);
    let (x, y) = (shape(&arrays[0])?, shape(&arrays[1])?);
    let count = x.first().copied().unwrap_or(0);
    if count == 0 || y.first() != Some(&count) {
        return Err(fail(format!(
            "expected as many images as label images, found arrays of shapes {x:?} and {y:?}"
        )));
    }
    let set = set(&path);
    let stem = plain_name(&set);
    Ok(Dataset {
        kind: Kind::Actis,
        version: Some(set),
        split: Some(split),
        channels: Vec::new(),
        pixel_size: None,
        files: vec![path.clone()],
        notes: Vec::new(),
        names: (0..count)
            .map(|place| format!("{stem}_{}_{place:05}", split.name()))
            .collect(),
        source: Box::new(Actis {
            path,
            archive,
            arrays,
        }),
    })
}

/// `Mouse_n0` of `Mouse_n0/test/test_data.npz`.
fn set(path: &Path) -> String {
    let parent = path.parent();
    let named = |folder: Option<&Path>| folder.map(name).filter(|name| !name.is_empty());
    let own = named(parent).unwrap_or_default();
    match ["train", "test"].contains(&own.as_str()) {
        true => named(parent.and_then(Path::parent)).unwrap_or(own),
        false => own,
    }
}

struct Actis {
    path: PathBuf,
    archive: Archive,
    arrays: [String; 2],
}

impl Source for Actis {
    fn visit(
        &self,
        chosen: &[usize],
        take: &mut dyn FnMut(usize, Result<Sample>) -> Result<()>,
    ) -> Result<()> {
        let mut ended = Ok(());
        let streamed = self.archive.with(&self.arrays[0], |images| {
            let stored = images.dtype();
            self.archive.with(&self.arrays[1], |labels| {
                for &place in chosen {
                    let (x, y) = (images.read(place)?, labels.read(place)?);
                    let sample = sample(&x, &y, stored).map_err(|reason| {
                        Error::read(&self.path, format!("image {place}: {reason}"))
                    });
                    ended = take(place, sample);
                    if ended.is_err() {
                        break;
                    }
                }
                Ok(())
            })
        });
        ended?;
        streamed.map_err(|reason| Error::read(&self.path, reason))
    }
}

fn sample(x: &Item, y: &Item, stored: Option<Dtype>) -> std::result::Result<Sample, String> {
    let (height, width, channels) = match x.shape.as_slice() {
        &[height, width] => (height, width, 1),
        &[height, width, channels @ 1..=5] => (height, width, channels),
        other => return Err(format!("expected rows and columns, found shape {other:?}")),
    };
    if y.values.len() != height * width || y.shape.first() != Some(&height) {
        return Err(format!(
            "expected labels of {height} x {width} pixels, found shape {:?}",
            y.shape
        ));
    }
    let pixels = Array3::from_shape_fn((channels, height, width), |(channel, row, column)| {
        x.values[(row * width + column) * channels + channel] as f32
    });
    let numbers = Array2::from_shape_fn((height, width), |(row, column)| {
        y.values[row * width + column]
    });
    let whole = |most: f32| {
        pixels
            .iter()
            .all(|&v| v >= 0. && v <= most && v.fract() == 0.)
    };
    let stored = match stored {
        Some(dtype) => dtype.pixel_type(),
        // Images of their own sizes do not say how they are stored.
        None if whole(255.) => PixelType::U8,
        None if whole(65535.) => PixelType::U16,
        None => PixelType::Float,
    };
    Ok(Sample {
        image: Image::new(pixels, stored).map_err(|error| error.to_string())?,
        labels: labels(numbers)?,
        left_out: LeftOut::default(),
    })
}
