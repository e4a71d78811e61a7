//! The pretrained models that users know by name: where each comes from, under which file name and licence.

/// The package that made a model and keeps it on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Cellpose 2 and 3 (`models.model_path` of Cellpose 3.1.1).
    Cellpose,
    /// StarDist 2D (`models/__init__.py` of StarDist 0.9.1).
    StarDist,
    /// Mesmer of DeepCell 0.12.10.
    Mesmer,
}

/// How a download is known to be the right file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Its package publishes this MD5.
    Md5(&'static str),
    /// Nobody publishes one: the first download is recorded, and later ones are compared with it.
    Unpublished,
}

/// A model of the catalogue.
#[derive(Debug)]
pub struct Entry {
    /// As users call it.
    pub name: &'static str,
    pub family: Family,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// The file as its source calls it.
    pub file: &'static str,
    pub digest: Digest,
    /// The file that tells the diameter of cells, and lies beside the weights.
    pub size_model: Option<&'static str>,
    pub licence: &'static str,
}

const CELLPOSE_NC: &str =
    "trained on data that is in part CC-BY-NC: not for commercial use (README of Cellpose 3)";
const CELLPOSE_FREE: &str =
    "BSD-3 as Cellpose; not among the models that its README calls trained on CC-BY-NC data";
const STARDIST: &str = "BSD-3 as StarDist";
const STARDIST_HE: &str = "BSD-3 as StarDist; trained on MoNuSeg images, which are CC-BY-NC-SA";
const MESMER: &str = "modified Apache licence of DeepCell: non-commercial academic use only";

const fn cellpose(name: &'static str, about: &'static str) -> Entry {
    Entry {
        name,
        family: Family::Cellpose,
        about,
        file: name,
        digest: Digest::Unpublished,
        size_model: None,
        licence: CELLPOSE_NC,
    }
}

const fn sized(
    name: &'static str,
    about: &'static str,
    file: &'static str,
    size_model: &'static str,
) -> Entry {
    Entry {
        file,
        size_model: Some(size_model),
        ..cellpose(name, about)
    }
}

const fn free(name: &'static str, about: &'static str) -> Entry {
    Entry {
        licence: CELLPOSE_FREE,
        ..cellpose(name, about)
    }
}

const fn stardist(
    name: &'static str,
    about: &'static str,
    file: &'static str,
    md5: &'static str,
) -> Entry {
    Entry {
        name,
        family: Family::StarDist,
        about,
        file,
        digest: Digest::Md5(md5),
        size_model: None,
        licence: STARDIST,
    }
}

/// All models, family by family, the most used ones first.
pub const CATALOGUE: &[Entry] = &[
    sized(
        "cyto3",
        "cells of many kinds, nuclei as second channel",
        "cyto3",
        "size_cyto3.npy",
    ),
    sized(
        "cyto2",
        "cells, also of users' images",
        "cyto2torch_0",
        "size_cyto2torch_0.npy",
    ),
    sized(
        "cyto",
        "cells, the first Cellpose",
        "cytotorch_0",
        "size_cytotorch_0.npy",
    ),
    sized(
        "nuclei",
        "nuclei",
        "nucleitorch_0",
        "size_nucleitorch_0.npy",
    ),
    cellpose("livecell", "cell lines in phase contrast (LIVECell)"),
    cellpose("tissuenet", "cells in tissue (TissueNet)"),
    cellpose("TN1", "a style of TissueNet"),
    cellpose("TN2", "a style of TissueNet"),
    cellpose("TN3", "a style of TissueNet"),
    cellpose("LC1", "a style of LIVECell"),
    cellpose("LC2", "a style of LIVECell"),
    cellpose("LC3", "a style of LIVECell"),
    cellpose("LC4", "a style of LIVECell"),
    cellpose("CP", "a style of Cellpose's own images"),
    cellpose("CPx", "a style of Cellpose's own images"),
    cellpose("cyto2_cp3", "cyto2, trained again for Cellpose 3"),
    cellpose("tissuenet_cp3", "cells in tissue (TissueNet), Cellpose 3"),
    cellpose(
        "livecell_cp3",
        "cell lines in phase contrast (LIVECell), Cellpose 3",
    ),
    free("yeast_PhC_cp3", "yeast in phase contrast"),
    free("yeast_BF_cp3", "yeast in bright field"),
    cellpose("bact_phase_cp3", "bacteria in phase contrast"),
    cellpose("bact_fluor_cp3", "bacteria in fluorescence"),
    free("deepbacs_cp3", "bacteria (DeepBacs)"),
    stardist(
        "2D_versatile_fluo",
        "nuclei in fluorescence",
        "python_2D_versatile_fluo.zip",
        "8db40dacb5a1311b8d2c447ad934fb8a",
    ),
    Entry {
        licence: STARDIST_HE,
        ..stardist(
            "2D_versatile_he",
            "nuclei in H&E-stained tissue, RGB",
            "python_2D_versatile_he.zip",
            "bf34cb3c0e5b3435971e18d66778a4ec",
        )
    },
    stardist(
        "2D_paper_dsb2018",
        "nuclei in fluorescence, StarDist's paper",
        "python_2D_paper_dsb2018.zip",
        "6287bf283f85c058ec3e7094b41039b5",
    ),
    stardist(
        "2D_demo",
        "nuclei in fluorescence, small",
        "python_2D_demo.zip",
        "31f70402f58c50dd231ec31b4375ea2c",
    ),
    Entry {
        name: "mesmer",
        family: Family::Mesmer,
        about: "cells and nuclei in tissue, multiplexed",
        file: "MultiplexSegmentation-9.tar.gz",
        digest: Digest::Md5("a1dfbce2594f927b9112f23a0a1739e0"),
        size_model: None,
        licence: MESMER,
    },
];

/// Names that users may try and that cannot work, with the reason.
const NOT: &[(&str, &str)] = &[
    ("cpsam", CELLPOSE4),
    ("cpsam_v2", CELLPOSE4),
    ("cpdino", CELLPOSE4),
    ("cpdino-vitb", CELLPOSE4),
    (
        "transformer_cp3",
        "a transformer, which selfadapt does not build; cyto3 is its sibling",
    ),
    ("3D_demo", "a model for volumes; selfadapt works on planes"),
];

const CELLPOSE4: &str = "a Cellpose 4 network, which selfadapt does not build; cyto3 is the general model of Cellpose 3";

/// Where each family's files lie on the web, in the order in which they are tried.
impl Family {
    /// Addresses to which a file's name is added.
    pub fn sources(self) -> &'static [&'static str] {
        match self {
            Self::Cellpose => &["https://www.cellpose.org/models/"],
            Self::StarDist => {
                &["https://github.com/stardist/stardist-models/releases/download/v0.1/"]
            }
            Self::Mesmer => &[],
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cellpose => "Cellpose",
            Self::StarDist => "StarDist",
            Self::Mesmer => "Mesmer",
        }
    }
}

impl Entry {
    /// The file's name on this machine.
    pub fn local(&self) -> String {
        match self.family {
            Family::Cellpose => self.file.to_owned(),
            Family::StarDist => format!("{}.zip", self.name),
            Family::Mesmer => format!("{}.onnx", self.name),
        }
    }
}

/// The model of a name, exactly as written.
pub fn named(name: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.name == name)
}

/// Why a name that exists elsewhere cannot work here.
pub fn impossible(name: &str) -> Option<&'static str> {
    let found = NOT.iter().find(|(known, _)| *known == name);
    found.map(|(_, reason)| *reason)
}

/// Up to three of `names` that look or sound like `name`, the nearest first.
pub fn near<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = names
        .filter_map(|known| {
            let other = known.to_lowercase();
            let distance = strsim::damerau_levenshtein(&wanted, &other);
            let longest = wanted.chars().count().max(other.chars().count());
            let inside = wanted.len() >= 3 && (other.contains(&wanted) || wanted.contains(&other));
            (inside || 3 * distance <= longest).then_some((distance, known))
        })
        .collect();
    scored.sort();
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_files_are_unique_and_digests_well_formed() {
        let mut seen = BTreeSet::new();
        for entry in CATALOGUE {
            assert!(seen.insert(entry.name), "{} twice", entry.name);
            assert!(seen.insert(entry.file) || entry.file == entry.name);
            if let Digest::Md5(digest) = entry.digest {
                assert!(digest.len() == 32 && digest.bytes().all(|b| b.is_ascii_hexdigit()));
            }
            assert!(impossible(entry.name).is_none());
        }
        for source in [Family::Cellpose, Family::StarDist]
            .map(Family::sources)
            .concat()
        {
            assert!(source.starts_with("https://") && source.ends_with('/'));
        }
    }

    #[test]
    fn near_names_are_offered_and_far_ones_are_not() {
        let near = |name| near(name, CATALOGUE.iter().map(|entry| entry.name));
        assert_eq!(near("cyto4")[0], "cyto");
        assert_eq!(near("Nuclei"), ["nuclei"]);
        assert_eq!(near("2d_versatile_flou")[0], "2D_versatile_fluo");
        assert!(near("versatile").contains(&"2D_versatile_he"));
        assert!(near("banana").is_empty());
    }
}
