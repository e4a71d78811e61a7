//! Which datasets there are: their layouts, where they are to be had, their terms, and their parts.

use serde::{Deserialize, Serialize};

/// A dataset that is known by its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// LIVECell (Edlund 2021): phase contrast images and COCO annotations.
    Livecell,
    /// TissueNet 1.0 and 1.1 (Greenwald 2022): nuclear and membrane channel, whole cells and nuclei.
    Tissuenet,
    /// The sets of ACTIS (Rumberger 2023): Flywing, Mouse, DSB2018.
    Actis,
    /// Cellpose's training set (Stringer 2021).
    Cellpose,
    /// Folders of images with label images named after them.
    Pairs,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Livecell,
        Self::Tissuenet,
        Self::Actis,
        Self::Cellpose,
        Self::Pairs,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Livecell => "livecell",
            Self::Tissuenet => "tissuenet",
            Self::Actis => "actis",
            Self::Cellpose => "cellpose",
            Self::Pairs => "pairs",
        }
    }

    /// Which files make the layout.
    pub fn layout(self) -> &'static str {
        match self {
            Self::Livecell => {
                "livecell_coco_{train,val,test}.json or LIVECell_single_cells/TYPE/{train,val,test}.json, and the \
                 images of images.zip"
            }
            Self::Tissuenet => "tissuenet_v1.{0,1}_{train,val,test}.npz, or {train,val,test}.npz",
            Self::Actis => "NAME_n0/{train,test}/{train,test}_data.npz",
            Self::Cellpose => "{train,test}/NNN_img.png and NNN_masks.png",
            Self::Pairs => {
                "NAME.tif and NAME_masks.tif in one folder, or in the folders images and labels"
            }
        }
    }

    /// Where it is to be had.
    pub fn home(self) -> &'static str {
        match self {
            Self::Livecell => "https://sartorius-research.github.io/LIVECell",
            Self::Tissuenet => "https://datasets.deepcell.org",
            Self::Actis => "https://github.com/Kainmueller-Lab/ACTIS",
            Self::Cellpose => "https://www.cellpose.org/dataset",
            Self::Pairs => "your own disk",
        }
    }

    /// Under which terms.
    pub fn licence(self) -> &'static str {
        match self {
            Self::Livecell => "CC BY-NC 4.0: no commercial use",
            Self::Tissuenet => {
                "modified Apache licence of deepcell-tf: non-commercial academic use only"
            }
            Self::Actis => {
                "MIT for the repository; the images come from other sets (see its paper), whose terms hold"
            }
            Self::Cellpose => {
                "its own terms of use, non-commercial: read them where it is downloaded"
            }
            Self::Pairs => "not known to the program",
        }
    }
}

/// The part of a dataset that a method may be taught, tuned, or tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }
}

/// Which labels of a cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compartment {
    /// All of it.
    #[default]
    WholeCell,
    /// Its nucleus.
    Nuclear,
}
