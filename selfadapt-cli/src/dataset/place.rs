//! The folder that a dataset is unpacked to, image by image; an interrupted command finds there what is done.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::io::datasets::{LeftOut, Sample};
use selfadapt_core::io::{atomic, outputs, tiff};
use serde::{Deserialize, Serialize};

use super::manifest::{FILE, Manifest};
use crate::failure::Failure;

/// A line for each finished image, which stays: it is what a command that is given again goes by.
const RECORD: &str = "images.jsonl";

/// An image that is unpacked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    pub image: String,
    /// Pixels of each object.
    pub areas: Vec<u32>,
    pub left_out: LeftOut,
}

/// The folder.
pub struct Place {
    root: PathBuf,
    record: File,
    done: BTreeMap<String, Done>,
}

impl Place {
    /// Opens a new folder, or one that the same request began with.
    ///
    /// # Errors
    /// If the folder holds something else, or cannot be written.
    pub fn open(root: &Path, manifest: &Manifest) -> Result<Self, Failure> {
        let occupied = |what: &str| {
            Failure::state(
                format!("{} {what}", root.display()),
                "choose another folder with --out, or remove this one",
            )
        };
        let path = root.join(FILE);
        let mut done = BTreeMap::new();
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
            let other: Manifest = serde_json::from_str(&text)
                .map_err(|_| occupied("holds a dataset.json that is not this command's"))?;
            if !manifest.is_of(&other) {
                return Err(occupied("holds another dataset, or another choice of it"));
            }
            done = read(root);
        } else if ["images", "labels"]
            .iter()
            .any(|name| root.join(name).exists())
        {
            return Err(occupied("holds images or labels of other origin"));
        }
        for folder in [root.to_owned(), root.join("images"), root.join("labels")] {
            std::fs::create_dir_all(&folder).map_err(|error| Error::write(&folder, error))?;
        }
        write_manifest(root, manifest)?;
        let path = root.join(RECORD);
        let failed = |error: std::io::Error| Error::write(&path, error);
        // Written anew, as its last line may be half a one.
        let mut lines = Vec::new();
        for image in done.values() {
            line(&mut lines, image).map_err(failed)?;
        }
        atomic::write_bytes(&path, &lines)?;
        let record = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(failed)?;
        Ok(Self {
            root: root.to_owned(),
            record,
            done,
        })
    }

    /// What became of an image, if it is unpacked.
    pub fn done(&self, name: &str) -> Option<&Done> {
        self.done.get(name)
    }

    /// Writes an image and its labels.
    ///
    /// # Errors
    /// If the disk is full or not writable.
    pub fn write(&mut self, name: &str, sample: &Sample) -> Result<()> {
        let (image, labels) = files(&self.root, name);
        write_image(&image, &sample.image)?;
        outputs::write_masks_tif(&labels, &sample.labels)?;
        let done = Done {
            image: name.to_owned(),
            areas: sample
                .labels
                .areas()
                .iter()
                .map(|&area| area as u32)
                .collect(),
            left_out: sample.left_out,
        };
        line(&mut self.record, &done)
            .map_err(|error| Error::write(self.root.join(RECORD), error))?;
        self.done.insert(name.to_owned(), done);
        Ok(())
    }

    /// Writes the final manifest and returns its text.
    ///
    /// # Errors
    /// If the disk is full or not writable.
    pub fn finish(self, manifest: &Manifest) -> Result<String> {
        write_manifest(&self.root, manifest)
    }
}

/// `images/NAME.tif` and `labels/NAME_masks.tif`, which is how evaluate, adapt and train pair them.
fn files(root: &Path, name: &str) -> (PathBuf, PathBuf) {
    let image = root.join("images").join(format!("{name}.tif"));
    (image, root.join("labels").join(format!("{name}_masks.tif")))
}

fn write_manifest(root: &Path, manifest: &Manifest) -> Result<String> {
    atomic::write_json(root.join(FILE), manifest)
}

fn line(out: &mut impl Write, done: &Done) -> std::io::Result<()> {
    let mut text = serde_json::to_string(done)?;
    text.push('\n');
    out.write_all(text.as_bytes())
}

/// The images of the record whose files are both there; a line that was cut off is passed over.
fn read(root: &Path) -> BTreeMap<String, Done> {
    let text = std::fs::read_to_string(root.join(RECORD)).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|done: &Done| {
            let (image, labels) = files(root, &done.image);
            image.is_file() && labels.is_file()
        })
        .map(|done| (done.image.clone(), done))
        .collect()
}

/// In the number type of the file that it came from, where that is one of 8 or 16 bits without sign.
fn write_image(path: &Path, image: &Image) -> Result<()> {
    let pixels = image.pixels();
    match image.stored_as() {
        PixelType::U8 => tiff::write(path, pixels.mapv(|value| value as u8).view()),
        PixelType::U16 => tiff::write(path, pixels.mapv(|value| value as u16).view()),
        PixelType::U32 | PixelType::Signed | PixelType::Float => tiff::write(path, pixels),
    }
}
