//! What lies in the folder of a dataset, so that its layout can be told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::inputs;
use crate::error::{Error, Result};

/// Folders are followed so deep.
const DEPTH: usize = 8;

/// More files than that are no dataset of one of the known kinds.
const MOST: usize = 2_000_000;

/// The files of a folder and of the folders in it, in the order of their names; hidden ones are left out.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    all: Vec<PathBuf>,
}

impl Files {
    /// Lists a folder; a file stands for itself.
    ///
    /// # Errors
    /// If there is no such folder, it cannot be listed, or holds millions of files.
    pub fn list(place: &Path) -> Result<Self> {
        let mut all = Vec::new();
        if place.is_file() {
            all.push(place.to_owned());
        } else if place.is_dir() {
            gather(place, DEPTH, &mut all)?;
        } else {
            return Err(Error::read(place, "there is no such file or folder"));
        }
        all.sort();
        Ok(Self {
            root: place.to_owned(),
            all,
        })
    }

    /// The folder, or the single file.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Files with this ending, which is given in lower case and without a dot.
    pub fn ending<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Path> {
        self.all
            .iter()
            .map(PathBuf::as_path)
            .filter(move |path| inputs::extension(path) == extension)
    }

    /// Files whose name fits.
    pub fn named(&self, fits: impl Fn(&str) -> bool) -> Vec<&Path> {
        let of = |path: &&Path| fits(&name(path));
        self.all.iter().map(PathBuf::as_path).filter(of).collect()
    }

    /// `3 .json, 12 .tif`, the most frequent first.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for path in &self.all {
            *counts.entry(inputs::extension(path)).or_default() += 1;
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut shown: Vec<String> = counts
            .iter()
            .take(4)
            .map(|(extension, count)| match extension.as_str() {
                "" => format!("{count} without an ending"),
                _ => format!("{count} .{extension}"),
            })
            .collect();
        if counts.len() > 4 {
            shown.push("others".into());
        }
        if shown.is_empty() {
            return "no file".into();
        }
        shown.join(", ")
    }
}

fn gather(folder: &Path, depth: usize, all: &mut Vec<PathBuf>) -> Result<()> {
    let fail = |error: std::io::Error| Error::read(folder, error);
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            // What a Mac's archiver adds.
            if depth > 0 && !path.ends_with("__MACOSX") {
                gather(&path, depth - 1, all)?;
            }
        } else {
            all.push(path);
        }
        if all.len() > MOST {
            return Err(Error::read(
                folder,
                format!("more than {MOST} files; name the dataset's own folder"),
            ));
        }
    }
    Ok(())
}

/// The last part of a path.
pub(super) fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The last part of a path without its ending.
pub(super) fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}
