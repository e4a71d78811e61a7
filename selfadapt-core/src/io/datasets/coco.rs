//! COCO annotation files of any length: images and masks one by one, without the rest in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::marker::PhantomData;
use std::path::Path;

use serde::Deserialize;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::runs::{LONGEST_SIDE, Runs};
use super::segmentation::Segmentation;
use crate::error::{Error, Result};

/// An entry of the list `images`.
#[derive(Clone, Debug, Deserialize)]
pub struct CocoImage {
    /// What annotations call it.
    pub id: i64,
    /// Its file, perhaps with folders.
    pub file_name: String,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// The masks of one image in the order of the file, and what is no mask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// One for each object.
    pub masks: Vec<Runs>,
    /// Annotations of groups of objects (`iscrowd`), which are none.
    pub crowds: usize,
    /// Annotations without a pixel in the image.
    pub empty: usize,
}

/// More images than that are not listed in one file.
const MOST_IMAGES: usize = 1_000_000;

/// Reads the list of images, and how many annotations each of them has, in the order of the list.
///
/// # Errors
/// If the file is cut off, is no COCO file, or an image claims a side beyond 16384 pixels.
pub fn images(path: &Path) -> Result<Vec<(CocoImage, usize)>> {
    #[derive(Deserialize)]
    struct Brief {
        image_id: i64,
    }
    let mut images = Vec::new();
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    let found = each(
        path,
        &mut |image: CocoImage| {
            let (height, width) = (image.height, image.width);
            if images.len() == MOST_IMAGES {
                return Err(format!("more than {MOST_IMAGES} images"));
            }
            if height == 0 || width == 0 || height > LONGEST_SIDE || width > LONGEST_SIDE {
                return Err(format!(
                    "{}: expected 1 to {LONGEST_SIDE} pixels a side, found {height} x {width}",
                    image.file_name
                ));
            }
            images.push(image);
            Ok(())
        },
        &mut |brief: Brief| {
            *counts.entry(brief.image_id).or_default() += 1;
            Ok(())
        },
    )?;
    for (there, name) in [(found.images, "images"), (found.annotations, "annotations")] {
        if !there {
            return Err(Error::read(
                path,
                format!(
                    "expected a COCO file with the lists images and annotations, found no {name}"
                ),
            ));
        }
    }
    Ok(images
        .into_iter()
        .map(|image| {
            let count = counts.get(&image.id).copied().unwrap_or(0);
            (image, count)
        })
        .collect())
}

/// Reads the masks of the images in `wanted`, which names their `(height, width)` by their ids.
///
/// # Errors
/// As [`images`], and if a mask does not fit its image.
pub fn masks(path: &Path, wanted: &BTreeMap<i64, (u32, u32)>) -> Result<BTreeMap<i64, Masks>> {
    #[derive(Deserialize)]
    struct Annotation {
        #[serde(default)]
        id: i64,
        image_id: i64,
        #[serde(default)]
        iscrowd: u8,
        segmentation: Option<Segmentation>,
    }
    let mut all: BTreeMap<i64, Masks> = BTreeMap::new();
    each(
        path,
        &mut |_: IgnoredAny| Ok(()),
        &mut |annotation: Annotation| {
            let Some(&size) = wanted.get(&annotation.image_id) else {
                return Ok(());
            };
            let of = all.entry(annotation.image_id).or_default();
            if annotation.iscrowd != 0 {
                of.crowds += 1;
                return Ok(());
            }
            let mask = match &annotation.segmentation {
                Some(segmentation) => segmentation
                    .runs(size)
                    .map_err(|reason| format!("annotation {}: {reason}", annotation.id))?,
                None => Runs::default(),
            };
            if mask.area() == 0 {
                of.empty += 1;
            } else {
                of.masks.push(mask);
            }
            Ok(())
        },
    )?;
    Ok(all)
}

/// Which lists a file has.
#[derive(Clone, Copy, Default)]
struct Found {
    images: bool,
    annotations: bool,
}

/// Goes once through a file, handing every image and every annotation on as soon as it is read.
fn each<I: DeserializeOwned, A: DeserializeOwned>(
    path: &Path,
    image: &mut dyn FnMut(I) -> Result<(), String>,
    annotation: &mut dyn FnMut(A) -> Result<(), String>,
) -> Result<Found> {
    let file = File::open(path).map_err(|error| Error::read(path, error))?;
    let reader = BufReader::with_capacity(1 << 20, file);
    parse(reader, image, annotation).map_err(|error| {
        let hint = if error.is_eof() {
            "the file was cut off: load it again"
        } else {
            "it is no COCO annotation file, or damaged"
        };
        Error::read(path, format!("{error}; {hint}"))
    })
}

fn parse<I: DeserializeOwned, A: DeserializeOwned>(
    reader: impl Read,
    image: &mut dyn FnMut(I) -> Result<(), String>,
    annotation: &mut dyn FnMut(A) -> Result<(), String>,
) -> serde_json::Result<Found> {
    let mut source = serde_json::Deserializer::from_reader(reader);
    let found = Whole { image, annotation }.deserialize(&mut source)?;
    source.end()?;
    Ok(found)
}

/// The file: an object whose other entries are skipped.
struct Whole<'a, I, A> {
    image: &'a mut dyn FnMut(I) -> Result<(), String>,
    annotation: &'a mut dyn FnMut(A) -> Result<(), String>,
}

impl<'de, I: DeserializeOwned, A: DeserializeOwned> DeserializeSeed<'de> for Whole<'_, I, A> {
    type Value = Found;

    fn deserialize<D: de::Deserializer<'de>>(self, source: D) -> Result<Found, D::Error> {
        source.deserialize_map(self)
    }
}

impl<'de, I: DeserializeOwned, A: DeserializeOwned> Visitor<'de> for Whole<'_, I, A> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the lists images and annotations")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Found, M::Error> {
        let mut found = Found::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "images" => {
                    map.next_value_seed(List::new(&mut *self.image))?;
                    found.images = true;
                }
                "annotations" => {
                    map.next_value_seed(List::new(&mut *self.annotation))?;
                    found.annotations = true;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// A list, or an object of which only the values count: some of LIVECell's files number their annotations so.
struct List<'a, T> {
    take: &'a mut dyn FnMut(T) -> Result<(), String>,
    of: PhantomData<T>,
}

impl<'a, T> List<'a, T> {
    fn new(take: &'a mut dyn FnMut(T) -> Result<(), String>) -> Self {
        Self {
            take,
            of: PhantomData,
        }
    }
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, source: D) -> Result<(), D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        while let Some(item) = items.next_element::<T>()? {
            (self.take)(item).map_err(de::Error::custom)?;
        }
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut items: M) -> Result<(), M::Error> {
        while let Some((_, item)) = items.next_entry::<IgnoredAny, T>()? {
            (self.take)(item).map_err(de::Error::custom)?;
        }
        Ok(())
    }
}
