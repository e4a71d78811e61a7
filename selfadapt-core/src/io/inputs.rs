//! Which files to work on: names, folders and patterns, in natural order, without results of earlier runs.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Extensions that a folder is searched for (Cellpose's list, as far as SelfAdapt reads them).
const READ: [&str; 7] = ["png", "jpg", "jpeg", "tif", "tiff", "flex", "zarr"];

/// Extensions of microscope formats that must be converted first; the last three are on Cellpose's list.
const CONVERT: [&str; 16] = [
    "czi", "lif", "lsm", "oib", "oif", "vsi", "svs", "ndpi", "ims", "zvi", "dv", "stk", "ome",
    "nd2", "nrrd", "dax",
];

/// Endings of the stems of results (`io.get_image_files` of Cellpose 3.1.1).
const RESULTS: [&str; 7] = [
    "_cp_output",
    "_flows",
    "_flows_0",
    "_flows_1",
    "_flows_2",
    "_cellprob",
    "_masks",
];

/// Endings that results add to the stem of their image, the longest first.
const ADDED: [&str; 11] = [
    "_cp_output_cp_masks",
    "_outlines_cp_masks",
    "_flows_cp_masks",
    "_dP_cp_masks",
    "_cp_masks",
    "_cp_output",
    "_cellprob",
    "_outlines",
    "_flows",
    "_masks",
    "_seg",
];

/// What a list of names came to.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Image files in natural order (`img2` before `img10`), each once.
    pub images: Vec<PathBuf>,
    /// Images that were found but cannot be read, each with its reason and a way out.
    pub refused: Vec<Error>,
}

/// Finds the images that `paths` name: files, folders (not what lies in folders inside them), and patterns with `*`,
/// `?` or `[...]`.
///
/// Folders and patterns leave out hidden files and results: stems that end in one of Cellpose's output endings or in one
/// of `skip` (its `--mask_filter`). A file named by itself is taken, unless it is the result of another one named with
/// it, as a shell's `*.tif` gives.
///
/// # Errors
/// If a name leads nowhere, a folder cannot be listed, or no image is left at all.
pub fn inputs<P: AsRef<Path>>(paths: &[P], skip: &[&str]) -> Result<Inputs> {
    let mut named = Vec::new();
    let mut found = BTreeSet::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if path.is_dir() && extension(path) != "zarr" && !super::zarr::is_inside(path) {
            let listed = std::fs::read_dir(path).map_err(|error| Error::read(path, error))?;
            for entry in listed {
                let file = entry.map_err(|error| Error::read(path, error))?.path();
                if known(&file) && !hidden(&file) && !is_result(&file, skip) {
                    found.insert(file);
                }
            }
        } else if path.exists() {
            named.push(path.to_owned());
        } else {
            let text = path.to_string_lossy();
            let hits = match glob::glob(&text) {
                Ok(hits) if text.contains(['*', '?', '[']) => hits,
                _ => return Err(Error::read(path, "there is no such file or folder")),
            };
            let before = found.len();
            for hit in hits {
                let file = hit.map_err(|error| Error::read(path, error))?;
                if !hidden(&file) && !is_result(&file, skip) && (file.is_file() || known(&file)) {
                    found.insert(file);
                }
            }
            if found.len() == before {
                return Err(Error::read(path, "no image fits this pattern"));
            }
        }
    }
    let stems: BTreeSet<PathBuf> = named.iter().map(|file| file.with_extension("")).collect();
    found.extend(
        named
            .into_iter()
            .filter(|file| !result_of_another(file, &stems)),
    );
    let mut outcome = Inputs::default();
    for file in found {
        let extension = extension(&file);
        if READ.contains(&extension.as_str())
            || matches!(extension.as_str(), "npy" | "npz")
            || (file.is_dir() && super::zarr::is_inside(&file))
        {
            outcome.images.push(file);
        } else {
            outcome.refused.push(unsupported(&file));
        }
    }
    outcome
        .images
        .sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
    if outcome.images.is_empty() && outcome.refused.is_empty() {
        let names: Vec<String> = paths
            .iter()
            .map(|p| p.as_ref().display().to_string())
            .collect();
        return Err(Error::Setting(format!(
            "no images in {}: expected files that end in .{} and not in {}",
            if names.is_empty() {
                "an empty list".to_owned()
            } else {
                names.join(", ")
            },
            READ.join(", ."),
            RESULTS.join(", ")
        )));
    }
    Ok(outcome)
}

/// The extension in lower case, without the dot; empty if there is none.
pub(super) fn extension(path: &Path) -> String {
    path.extension()
        .map(|e| e.to_string_lossy().to_lowercase())
        .unwrap_or_default()
}

/// The error for a file of a kind that is not read, with a way to convert it.
pub(super) fn unsupported(path: &Path) -> Error {
    let extension = extension(path);
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Error::read(
        path,
        if CONVERT.contains(&extension.as_str()) {
            format!(
                "files of type .{extension} are not read; convert it to OME-TIFF, for example with Bio-Formats: \
                 bfconvert '{file}' '{}.ome.tif', or in Fiji by File > Save As > Tiff",
                path.file_stem().unwrap_or_default().to_string_lossy()
            )
        } else {
            format!(
                "expected a file that ends in .tif, .tiff, .png, .jpg, .jpeg, .npy, .npz or .zarr, found {}",
                if extension.is_empty() {
                    "no extension".to_owned()
                } else {
                    format!(".{extension}")
                }
            )
        },
    )
}

fn known(path: &Path) -> bool {
    let extension = extension(path);
    READ.contains(&extension.as_str()) || CONVERT.contains(&extension.as_str())
}

fn hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn is_result(path: &Path, skip: &[&str]) -> bool {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ends =
        |ending: &&str| !ending.is_empty() && stem.len() > ending.len() && stem.ends_with(*ending);
    RESULTS.iter().chain(skip).any(ends)
}

fn result_of_another(path: &Path, stems: &BTreeSet<PathBuf>) -> bool {
    let stem = path.with_extension("");
    let name = stem.file_name().unwrap_or_default().to_string_lossy();
    ADDED
        .iter()
        .filter_map(|ending| name.strip_suffix(ending))
        .any(|image| stems.contains(&stem.with_file_name(image)))
}

/// Text compared with its numbers as numbers, as Python's `natsort` does.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() || !right.is_empty() {
        let digits = |text: &str| {
            text.find(|c: char| c.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let ((text_l, rest_l), (text_r, rest_r)) =
            (left.split_at(digits(left)), right.split_at(digits(right)));
        let others = |text: &str| {
            text.find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len())
        };
        let ((number_l, tail_l), (number_r, tail_r)) = (
            rest_l.split_at(others(rest_l)),
            rest_r.split_at(others(rest_r)),
        );
        let size = |number: &str| {
            let significant = number.trim_start_matches('0');
            (
                number.len().min(1),
                significant.len(),
                significant.to_owned(),
            )
        };
        let order = text_l
            .cmp(text_r)
            .then_with(|| size(number_l).cmp(&size(number_r)));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (tail_l, tail_r);
    }
    a.cmp(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(inputs: &Inputs) -> Vec<String> {
        inputs
            .images
            .iter()
            .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn folders_give_images_in_natural_order() {
        let folder = folder(&[
            "img10.tif",
            "img2.TIF",
            "img1.png",
            "img1_cp_masks.png",
            "img1_seg.npy",
            "img2_flows.tif",
            "notes.txt",
            "img2_mine.tif",
            "_masks.tif",
            ".img3.tif",
        ]);
        let found = inputs(&[folder.path()], &["_mine"]).unwrap();
        assert_eq!(
            names(&found),
            ["_masks.tif", "img1.png", "img2.TIF", "img10.tif"]
        );
        assert!(found.refused.is_empty());
    }

    #[test]
    fn patterns_and_names() {
        let folder = folder(&[
            "a1.tif",
            "a1_cp_masks.tif",
            "a2.tif",
            "b.npy",
            "c_masks.tif",
        ]);
        let at = |name: &str| folder.path().join(name);
        assert_eq!(
            names(&inputs(&[at("a*.tif")], &[]).unwrap()),
            ["a1.tif", "a2.tif"]
        );
        let listed = [
            at("a1_cp_masks.tif"),
            at("a1.tif"),
            at("a1.tif"),
            at("b.npy"),
            at("c_masks.tif"),
        ];
        assert_eq!(
            names(&inputs(&listed, &[]).unwrap()),
            ["a1.tif", "b.npy", "c_masks.tif"]
        );
        let alone = inputs(&[at("a1_cp_masks.tif")], &[]).unwrap();
        assert_eq!(names(&alone), ["a1_cp_masks.tif"]);
        let none = inputs(&[at("x.tif")], &[]).unwrap_err().to_string();
        assert!(
            none.contains("x.tif") && none.contains("no such file"),
            "{none}"
        );
        assert!(inputs(&[at("x*.tif")], &[]).is_err());
        assert!(inputs::<&Path>(&[], &[]).is_err());
    }

    #[test]
    fn microscope_formats_are_refused_by_name() {
        let folder = folder(&["a.tif", "b.nd2", "c.czi", "d.doc"]);
        let found = inputs(&[folder.path()], &[]).unwrap();
        assert_eq!(names(&found), ["a.tif"]);
        let refused: Vec<String> = found.refused.iter().map(Error::to_string).collect();
        assert_eq!(refused.len(), 2);
        assert!(
            refused[0].contains("b.nd2") && refused[0].contains("bfconvert"),
            "{refused:?}"
        );
        let wrong = inputs(&[folder.path().join("d.doc")], &[]).unwrap();
        assert!(wrong.refused[0].to_string().contains("found .doc"));
    }

    #[test]
    fn numbers_count_as_numbers() {
        // The order of natsort 8.4.0, which leaves a09 and a9 as they come.
        let mut names = [
            "a10", "a9", "a09", "b1", "ab", "a", "10", "9", "a1b2", "a1b10", "A1",
        ];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(
            names,
            [
                "9", "10", "A1", "a", "a1b2", "a1b10", "a09", "a9", "a10", "ab", "b1"
            ]
        );
    }
}
