//! Which labels belong to which image, by their names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use selfadapt_core::error::Result;
use selfadapt_core::io;

use crate::console::count;
use crate::failure::Failure;

/// An image and the file of its labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub image: PathBuf,
    pub labels: PathBuf,
}

/// Endings of label files, looked for in this order.
const EXTENSIONS: [&str; 4] = ["tif", "tiff", "png", "npy"];

/// Finds the images of `inputs` and beside each of them its labels, `<stem><filter>` with an ending of a label image; those of
/// `images/a.tif` may also lie in `labels/`, where `selfadapt dataset` puts them.
///
/// A filter that has an ending itself (`_seg.npy`) is taken as it is. With `skip` what has no partner is left out and
/// noted; otherwise it is an error.
///
/// # Errors
/// If an image has no labels, labels have no image, or there is no pair at all.
pub fn find(
    inputs: &[PathBuf],
    filter: &str,
    skip: bool,
) -> Result<(Vec<Pair>, Vec<String>), Failure> {
    let found = io::inputs(inputs, &[bare(filter)])?;
    let mut notes: Vec<String> = found
        .refused
        .iter()
        .map(|reason| format!("left out: {reason}"))
        .collect();
    let (mut pairs, mut bachelors) = (Vec::new(), Vec::new());
    for image in found.images {
        match labels_of(&image, filter) {
            Some(labels) => pairs.push(Pair { image, labels }),
            None => bachelors.push(image),
        }
    }
    let taken: BTreeSet<&Path> = pairs.iter().map(|pair| pair.labels.as_path()).collect();
    let orphans: Vec<PathBuf> = inputs
        .iter()
        .filter(|input| input.is_dir())
        .flat_map(|folder| labels_in(folder, filter))
        .filter(|labels| !taken.contains(labels.as_path()))
        .collect();
    let expected = format!("the labels of a.tif are a{}", example(filter));
    for (alone, what) in [
        (&bachelors, "without labels"),
        (&orphans, "without their image"),
    ] {
        if alone.is_empty() {
            continue;
        }
        let listed = listed(alone);
        // Where no image has labels at all, that is what is said, below.
        let told_below = pairs.is_empty() && what == "without labels";
        if !skip && !told_below {
            return Err(Failure::new(
                format!("{} {what}: {listed}", count(alone.len(), "file")),
                format!("{expected}; add what is missing, or leave these out with --skip-unpaired"),
            ));
        }
        notes.push(format!("left out {what}: {listed}"));
    }
    if pairs.is_empty() {
        return Err(Failure::new(
            format!(
                "no labelled image: {} without labels",
                count(bachelors.len(), "file")
            ),
            format!(
                "{expected}, in the same folder, or in the folder labels beside one called images; other names are given \
                 with --mask-filter"
            ),
        ));
    }
    Ok((pairs, notes))
}

/// The filter without an ending of its own.
fn bare(filter: &str) -> &str {
    filter.split('.').next().unwrap_or(filter)
}

fn example(filter: &str) -> String {
    if filter.contains('.') {
        filter.to_owned()
    } else {
        format!("{filter}.tif (or .tiff, .png, .npy)")
    }
}

fn labels_of(image: &Path, filter: &str) -> Option<PathBuf> {
    let stem = image.file_stem()?.to_str()?;
    let folder = image.parent()?;
    let elsewhere = folder
        .ends_with("images")
        .then(|| folder.with_file_name("labels"));
    let named = |name: String| {
        let folders = [Some(folder), elsewhere.as_deref()];
        let mut paths = folders
            .into_iter()
            .flatten()
            .map(|folder| folder.join(&name));
        paths.find(|path| path.is_file())
    };
    if filter.contains('.') {
        return named(format!("{stem}{filter}"));
    }
    EXTENSIONS
        .iter()
        .find_map(|extension| named(format!("{stem}{filter}.{extension}")))
}

/// Files of a folder that are named as labels; none where it cannot be listed, which is told elsewhere.
fn labels_in(folder: &Path, filter: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(name) = name.filter(|name| !name.starts_with('.')) else {
                return false;
            };
            if filter.contains('.') {
                return name.ends_with(filter);
            }
            EXTENSIONS.iter().any(|extension| {
                let stem = name.strip_suffix(*extension);
                let stem = stem.and_then(|stem| stem.strip_suffix('.'));
                // What segment writes is no ground truth.
                stem.is_some_and(|stem| stem.ends_with(filter) && !stem.ends_with("_cp_masks"))
            })
        })
        .collect();
    files.sort();
    files
}

/// Up to three names, and how many more there are.
fn listed(files: &[PathBuf]) -> String {
    let mut names: Vec<String> = files
        .iter()
        .take(3)
        .map(|file| file.display().to_string())
        .collect();
    if files.len() > 3 {
        names.push(format!("and {} more", files.len() - 3));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::write(folder.path().join(name), []).unwrap();
        }
        folder
    }

    fn find_in(names: &[&str], filter: &str, skip: bool) -> Result<Vec<String>, String> {
        let folder = folder(names);
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let found = find(&[folder.path().to_owned()], filter, skip);
        match found {
            Ok((pairs, notes)) => Ok(pairs
                .iter()
                .map(|pair| format!("{} {}", name(&pair.image), name(&pair.labels)))
                .chain(notes)
                .collect()),
            Err(failure) => Err(failure.to_string()),
        }
    }

    #[test]
    fn names_pair_as_in_cellpose() {
        let plain = [
            "a.tif",
            "a_masks.tif",
            "b.png",
            "b_masks.png",
            "a_cp_masks.tif",
        ];
        assert_eq!(
            find_in(&plain, "_masks", false).unwrap(),
            ["a.tif a_masks.tif", "b.png b_masks.png"]
        );
        let own = ["a.tif", "a_label.png"];
        assert_eq!(
            find_in(&own, "_label", false).unwrap(),
            ["a.tif a_label.png"]
        );
        let gui = ["a.tif", "a_seg.npy"];
        assert_eq!(
            find_in(&gui, "_seg.npy", false).unwrap(),
            ["a.tif a_seg.npy"]
        );
    }

    #[test]
    fn labels_may_lie_in_a_folder_beside_that_of_images() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["images", "labels"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("images/a.tif"), []).unwrap();
        std::fs::write(folder.path().join("labels/a_masks.tif"), []).unwrap();
        let (pairs, notes) = find(&[folder.path().join("images")], "_masks", false).unwrap();
        assert!(pairs[0].labels.ends_with("labels/a_masks.tif") && notes.is_empty());
    }

    #[test]
    fn what_has_no_partner_is_told() {
        let images = ["a.tif", "a_masks.tif", "b.tif"];
        let message = find_in(&images, "_masks", false).unwrap_err();
        assert!(message.starts_with("1 file without labels"), "{message}");
        let labels = ["a.tif", "a_masks.tif", "b_masks.tif"];
        let message = find_in(&labels, "_masks", false).unwrap_err();
        assert!(
            message.starts_with("1 file without their image"),
            "{message}"
        );
        let kept = find_in(&labels, "_masks", true).unwrap();
        assert!(
            kept[1].starts_with("left out without their image"),
            "{kept:?}"
        );
        let message = find_in(&["a.tif", "b.tif"], "_masks", true).unwrap_err();
        assert!(
            message.starts_with("no labelled image: 2 files"),
            "{message}"
        );
    }
}
