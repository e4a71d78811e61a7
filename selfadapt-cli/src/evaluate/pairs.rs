//! Which prediction belongs to which ground truth, by their names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A prediction and its ground truth.
#[derive(Debug, PartialEq, Eq)]
pub struct Pair {
    /// The image's name without extension.
    pub stem: String,
    pub prediction: PathBuf,
    pub truth: PathBuf,
}

/// What two folders came to; everything by stem, in order.
#[derive(Debug)]
pub struct Found {
    pub pairs: Vec<Pair>,
    pub without_truth: Vec<String>,
    pub without_prediction: Vec<String>,
}

const PREDICTION: &str = "_cp_masks";
const TRUTH: &str = "_masks";
const EXTENSIONS: [&str; 3] = ["tif", "tiff", "png"];

/// Pairs the files of two folders (which may be one).
pub fn find(predictions: &Path, truths: &Path) -> Result<Found, Failure> {
    let mut found = Found {
        pairs: Vec::new(),
        without_truth: Vec::new(),
        without_prediction: Vec::new(),
    };
    let mut truth_of = stems(truths, |stem| {
        let stem = stem.strip_suffix(TRUTH)?;
        (!stem.ends_with("_cp")).then_some(stem)
    })?;
    for (stem, prediction) in stems(predictions, |stem| stem.strip_suffix(PREDICTION))? {
        match truth_of.remove(&stem) {
            Some(truth) => found.pairs.push(Pair {
                stem,
                prediction,
                truth,
            }),
            None => found.without_truth.push(stem),
        }
    }
    found.without_prediction = truth_of.into_keys().collect();
    if found.pairs.is_empty() {
        return Err(Failure::new(
            format!(
                "no pair to evaluate: {} predictions in {}, {} truths in {}, and none of one stem",
                found.without_truth.len(),
                predictions.display(),
                found.without_prediction.len(),
                truths.display()
            ),
            "a prediction is named <stem>_cp_masks.tif (or .png), its ground truth <stem>_masks.tif (or .png)",
        ));
    }
    Ok(found)
}

/// Files of a folder by the part of their stem that `part` takes, where it takes any.
fn stems(
    folder: &Path,
    part: impl Fn(&str) -> Option<&str>,
) -> Result<BTreeMap<String, PathBuf>, Failure> {
    let unreadable = |reason: std::io::Error| {
        Failure::new(
            format!("{}: cannot list this folder: {reason}", folder.display()),
            "--pred and --truth are folders that hold label images",
        )
    };
    let mut stems: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        files.push(entry.map_err(unreadable)?.path());
    }
    files.sort();
    for path in files {
        let known = path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()));
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let Some(stem) = stem.filter(|_| known).and_then(&part) else {
            continue;
        };
        let stem = stem.to_owned();
        if let Some(other) = stems.insert(stem.clone(), path.clone()) {
            return Err(Failure::new(
                format!(
                    "two label images for {stem}: {} and {}",
                    other.display(),
                    path.display()
                ),
                "keep one of them in the folder",
            ));
        }
    }
    Ok(stems)
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

    #[test]
    fn pairs_by_stem_and_lists_the_rest() {
        let folder = folder(&[
            "a.tif",
            "a_masks.tif",
            "a_cp_masks.png",
            "b_cp_masks.tif",
            "c_masks.png",
            "d_masks.txt",
            "segment.json",
        ]);
        let found = find(folder.path(), folder.path()).unwrap();
        assert_eq!(found.pairs.len(), 1);
        assert_eq!(found.pairs[0].stem, "a");
        assert!(found.pairs[0].truth.ends_with("a_masks.tif"));
        assert_eq!(found.without_truth, ["b"]);
        assert_eq!(found.without_prediction, ["c"]);
    }

    #[test]
    fn two_files_for_one_image_are_an_error() {
        let folder = folder(&["a_masks.tif", "a_masks.png", "a_cp_masks.tif"]);
        let message = find(folder.path(), folder.path()).unwrap_err().to_string();
        assert!(message.starts_with("two label images for a"), "{message}");
    }
}
