//! dataset.json: what was unpacked from which files, and under which terms.

use std::path::{Path, PathBuf};

use selfadapt_core::error::Result;
use selfadapt_core::io::datasets::{Compartment, Dataset, Kind, LeftOut, Split, Wish};
use serde::{Deserialize, Serialize};

use super::place::Done;
use crate::console::count;
use crate::models::origin;

/// The file's name.
pub const FILE: &str = "dataset.json";

/// What was asked for; a folder is gone on with for the same request only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    #[serde(flatten)]
    pub wish: Wish,
    pub limit: Option<usize>,
    /// Of the draw, where there was one.
    pub seed: Option<u64>,
}

/// A file of the dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub image: String,
    pub reason: String,
}

/// The contents of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this program.
    pub selfadapt: String,
    /// Whether everything is there; `false` while the command runs, and after it was interrupted.
    pub complete: bool,
    pub kind: Kind,
    /// As its site numbers it.
    pub version: Option<String>,
    pub split: Option<Split>,
    /// Which labels, where there are several.
    pub compartment: Option<Compartment>,
    /// The terms of the images, in short.
    pub licence: String,
    /// Where it is to be had.
    pub source: String,
    pub request: Request,
    /// What the channels of an image show.
    pub channels: Vec<String>,
    /// Micrometres, where known and the same for all.
    pub pixel_size: Option<f64>,
    /// How many images there are.
    pub images: usize,
    /// How many objects there are.
    pub cells: usize,
    /// Images without any object.
    pub empty: usize,
    /// Median over all objects of the diameter of the circle of the same area, in pixels, as Cellpose computes it.
    pub median_diameter: Option<f64>,
    /// Annotations that became no object.
    pub left_out: LeftOut,
    pub notes: Vec<String>,
    /// Annotation files and archives; images that lie in files of their own are not listed.
    pub files: Vec<SourceFile>,
    pub failed: Vec<Failed>,
}

impl Manifest {
    /// What is known before anything is unpacked.
    ///
    /// # Errors
    /// If a file of the dataset cannot be read for its digest.
    pub fn begin(dataset: &Dataset, request: Request) -> Result<Self> {
        let files: Result<Vec<SourceFile>> = dataset
            .files
            .iter()
            .map(|path| {
                let digests = origin::digests(path)?;
                Ok(SourceFile {
                    path: path.clone(),
                    bytes: digests.bytes,
                    sha256: digests.sha256,
                })
            })
            .collect();
        let compartment =
            (dataset.kind == Kind::Tissuenet).then(|| request.wish.compartment.unwrap_or_default());
        Ok(Self {
            selfadapt: env!("CARGO_PKG_VERSION").to_owned(),
            complete: false,
            kind: dataset.kind,
            version: dataset.version.clone(),
            split: dataset.split,
            compartment,
            licence: dataset.kind.licence().to_owned(),
            source: dataset.kind.home().to_owned(),
            request,
            channels: dataset.channels.iter().map(|&c| c.to_owned()).collect(),
            pixel_size: dataset.pixel_size,
            images: 0,
            cells: 0,
            empty: 0,
            median_diameter: None,
            left_out: LeftOut::default(),
            notes: dataset.notes.clone(),
            files: files?,
            failed: Vec::new(),
        })
    }

    /// Whether `other` is of the same images and labels.
    pub fn is_of(&self, other: &Self) -> bool {
        let digests = |of: &Self| -> Vec<String> {
            of.files.iter().map(|file| file.sha256.clone()).collect()
        };
        self.kind == other.kind
            && self.split == other.split
            && self.request == other.request
            && digests(self) == digests(other)
    }

    /// Counts what was unpacked.
    pub fn finish(&mut self, done: &[&Done]) {
        self.complete = true;
        self.images = done.len();
        self.cells = done.iter().map(|image| image.areas.len()).sum();
        self.empty = done.iter().filter(|image| image.areas.is_empty()).count();
        self.median_diameter = median_diameter(done);
        self.left_out = LeftOut::default();
        for image in done {
            self.left_out.crowds += image.left_out.crowds;
            self.left_out.empty += image.left_out.empty;
            self.left_out.covered += image.left_out.covered;
        }
    }

    /// `livecell, test: 1512 images, 462261 cells of 23.4 pixels: out (CC BY-NC 4.0: no commercial use)`.
    pub fn summary(&self, out: &Path) -> String {
        let mut what = self.kind.name().to_owned();
        if let Some(version) = &self.version {
            what.push_str(&format!(" {version}"));
        }
        if let Some(split) = self.split {
            what.push_str(&format!(", {}", split.name()));
        }
        what.push_str(&format!(
            ": {}, {}",
            count(self.images, "image"),
            count(self.cells, "cell")
        ));
        if let Some(diameter) = self.median_diameter {
            what.push_str(&format!(" of {diameter:.1} pixels"));
        }
        let LeftOut {
            crowds,
            empty,
            covered,
        } = self.left_out;
        for (count, of) in [
            (self.empty, "images without any"),
            (crowds, "crowds left out"),
            (empty, "annotations without pixels"),
            (covered, "covered by others"),
            (self.failed.len(), "images failed"),
        ] {
            if count > 0 {
                what.push_str(&format!(", {count} {of}"));
            }
        }
        format!("{what}: {}\nlicence: {}", out.display(), self.licence)
    }
}

fn median_diameter(done: &[&Done]) -> Option<f64> {
    let mut areas: Vec<u32> = done.iter().flat_map(|image| image.areas.clone()).collect();
    areas.sort_unstable();
    let middle = areas.len() / 2;
    let root = |at: usize| areas.get(at).map(|&area| f64::from(area).sqrt());
    let median = match areas.len() % 2 {
        1 => root(middle)?,
        _ => 0.5 * (root(middle.checked_sub(1)?)? + root(middle)?),
    };
    Some(median * 2. / std::f64::consts::PI.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diameter_is_that_of_circles_of_the_same_area() {
        let of = |areas: &[u32]| {
            let done = Done {
                image: "a".into(),
                areas: areas.to_vec(),
                left_out: LeftOut::default(),
            };
            median_diameter(&[&done])
        };
        assert_eq!(of(&[]), None);
        // A disk of radius 10 has an area of 314.16.
        assert!((of(&[314]).unwrap() - 20.).abs() < 0.01);
        assert!((of(&[314, 1, 9999]).unwrap() - 20.).abs() < 0.01);
        let expected = (10. + 20.) / 2. * 2. / std::f64::consts::PI.sqrt();
        assert!((of(&[400, 100]).unwrap() - expected).abs() < 1e-9);
    }
}
