//! Datasets of the field as they are downloaded: LIVECell, TissueNet, ACTIS, Cellpose's, and folders of pairs, one file each.

mod actis;
mod choose;
pub mod coco;
mod files;
mod folders;
mod items;
mod kind;
mod livecell;
mod npz;
pub mod overlaps;
pub mod runs;
pub mod segmentation;
mod tissuenet;

use std::path::{Path, PathBuf};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::labels::Labels;
use files::Files;
pub use kind::{Compartment, Kind, Split};

/// What is wanted of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// Needed where there are several.
    pub split: Option<Split>,
    /// TissueNet's labels; whole cells where nothing is said.
    pub compartment: Option<Compartment>,
    /// Only images of this tissue (TissueNet).
    pub tissue: Option<String>,
    /// Only images of this imaging platform (TissueNet).
    pub platform: Option<String>,
    /// Only images of this cell type (LIVECell).
    pub cell_type: Option<String>,
    /// Leave out images without labels and labels without images, rather than refuse the set.
    pub skip_unpaired: bool,
}

/// An image and its objects.
#[derive(Clone, Debug)]
pub struct Sample {
    /// `[C, H, W]` in file units.
    pub image: Image,
    /// `[H, W]`.
    pub labels: Labels,
    /// Annotations that are not in the labels.
    pub left_out: LeftOut,
}

/// Annotations that became no object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Groups of objects (`iscrowd`).
    pub crowds: usize,
    /// Without a pixel in the image.
    pub empty: usize,
    /// Hidden by other objects (see [`overlaps::paint`]).
    pub covered: usize,
}

/// Reads the chosen samples, in ascending order, and hands each on: its place in [`Dataset::names`], and what became of it.
trait Source {
    fn visit(
        &self,
        chosen: &[usize],
        take: &mut dyn FnMut(usize, Result<Sample>) -> Result<()>,
    ) -> Result<()>;
}

/// A dataset whose list of images is known; pixels are read when they are asked for.
pub struct Dataset {
    /// What it is.
    pub kind: Kind,
    /// As the site numbers it, where it does.
    pub version: Option<String>,
    /// The chosen split, where there are splits.
    pub split: Option<Split>,
    /// What the channels of an image show, where that is known.
    pub channels: Vec<&'static str>,
    /// Width of a pixel in micrometres, where it is known and the same for all images.
    pub pixel_size: Option<f64>,
    /// Annotation files and archives; images that lie in files of their own are not among them.
    pub files: Vec<PathBuf>,
    /// What was left out, and other things that a user should know.
    pub notes: Vec<String>,
    names: Vec<String>,
    source: Box<dyn Source>,
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("split", &self.split)
            .field("images", &self.names.len())
            .finish_non_exhaustive()
    }
}

impl Dataset {
    /// Opens the dataset in the folder (or of the file) `place`; its kind is told by its layout where none is given.
    ///
    /// # Errors
    /// If the layout is of no known or of another kind, files are missing, cut off or of an unknown version, several splits
    /// are there and none was chosen, or no image fits the wish. The message says what was found and where the set is to
    /// be had.
    pub fn open(place: &Path, kind: Option<Kind>, wish: &Wish) -> Result<Self> {
        let files = Files::list(place)?;
        let kind = match kind {
            Some(kind) => kind,
            None => recognise(&files)?,
        };
        refuse_foreign(kind, wish)?;
        let dataset = match kind {
            Kind::Livecell => livecell::open(&files, wish)?,
            Kind::Tissuenet => tissuenet::open(&files, wish)?,
            Kind::Actis => actis::open(&files, wish)?,
            Kind::Cellpose => folders::open_cellpose(&files, wish)?,
            Kind::Pairs => folders::open_pairs(&files, wish)?,
        };
        if dataset.names.is_empty() {
            return Err(Error::read(place, "the dataset holds no image"));
        }
        Ok(dataset)
    }

    /// The names of its images, each once, without folder and ending, in the dataset's order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Reads the images at the places `chosen` (ascending) in [`Dataset::names`], in bounded memory, and hands each to
    /// `take`. An image that alone is damaged is handed on as an error.
    ///
    /// # Errors
    /// If the rest cannot be read, or `take` fails.
    pub fn visit(
        &self,
        chosen: &[usize],
        take: &mut dyn FnMut(usize, Result<Sample>) -> Result<()>,
    ) -> Result<()> {
        self.source.visit(chosen, take)
    }
}

/// Places of a seeded subset of `limit` out of `count`, ascending; all of them where the limit is not below.
pub fn subset(count: usize, limit: Option<usize>, seed: u64) -> Vec<usize> {
    let mut places: Vec<usize> = (0..count).collect();
    if let Some(limit) = limit.filter(|&limit| limit < count) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for place in 0..limit {
            let other = random.random_range(place..count);
            places.swap(place, other);
        }
        places.truncate(limit);
        places.sort_unstable();
    }
    places
}

/// The kind that a layout is of.
fn recognise(files: &Files) -> Result<Kind> {
    let found = [
        (livecell::fits(files), Kind::Livecell),
        (tissuenet::fits(files), Kind::Tissuenet),
        (actis::fits(files), Kind::Actis),
        (folders::is_cellpose(files), Kind::Cellpose),
        (folders::is_pairs(files), Kind::Pairs),
    ];
    if let Some((_, kind)) = found.into_iter().find(|(fits, _)| *fits) {
        return Ok(kind);
    }
    let layouts: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| format!("  {}: {}", kind.name(), kind.layout()))
        .collect();
    Err(Error::read(
        files.root(),
        format!(
            "no dataset that is known by its layout; found {}. Known are\n{}",
            files.summary(),
            layouts.join("\n")
        ),
    ))
}

/// A wish that the kind knows nothing of is a mistake.
fn refuse_foreign(kind: Kind, wish: &Wish) -> Result<()> {
    let tissue = kind == Kind::Tissuenet;
    for (asked, has, what, only) in [
        (
            wish.compartment.is_some(),
            tissue,
            "compartments",
            Kind::Tissuenet,
        ),
        (wish.tissue.is_some(), tissue, "tissues", Kind::Tissuenet),
        (
            wish.platform.is_some(),
            tissue,
            "platforms",
            Kind::Tissuenet,
        ),
        (
            wish.cell_type.is_some(),
            kind == Kind::Livecell,
            "cell types",
            Kind::Livecell,
        ),
    ] {
        if asked && !has {
            return Err(Error::Setting(format!(
                "{} has no {what} to choose from; {} has",
                kind.name(),
                only.name()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_is_the_same_for_the_same_seed() {
        let ten = subset(100, Some(10), 3);
        assert_eq!(ten, subset(100, Some(10), 3));
        assert_ne!(ten, subset(100, Some(10), 4));
        assert!(ten.is_sorted() && ten.len() == 10 && ten[9] < 100);
        assert_eq!(subset(3, Some(5), 0), [0, 1, 2]);
        assert_eq!(subset(3, None, 0), [0, 1, 2]);
    }
}
