//! inputs.json: the files that a run learns from, settled when it begins and the same when it goes on.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_models::digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// The file's name in a run folder.
const FILE: &str = "inputs.json";

/// Files larger than this are told apart by their ends and their length.
const WHOLE: u64 = 32 << 20;

/// A file, told apart from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Where it was.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal; of a file over 32 MiB, of its first and last 16 MiB.
    pub sha256: String,
}

/// What a run began with. Which crops are drawn depends on the number and order of the files, so a run that went on with
/// others would come to weights that no seed stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInputs {
    /// The files, in the order in which the run counts them.
    pub files: Vec<Fingerprint>,
    /// What was left out, and why, a sentence each.
    pub left_out: Vec<String>,
}

impl RunInputs {
    /// Tells files apart.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn of(paths: &[PathBuf], left_out: Vec<String>) -> Result<Self> {
        let files: Result<_> = paths.par_iter().map(|path| Fingerprint::of(path)).collect();
        Ok(Self {
            files: files?,
            left_out,
        })
    }

    /// Reads what a run began with.
    ///
    /// # Errors
    /// If the folder has no such file, or a damaged one.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        if !path.is_file() {
            return Err(Error::read(
                root,
                "expected inputs.json, the images that this run began with; begin a new run with --out",
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
        serde_json::from_str(&text).map_err(|e| Error::read(&path, e))
    }

    /// Writes it into a run folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, root: &Path) -> Result<()> {
        atomic::write_json(root.join(FILE), self).map(drop)
    }

    /// Where the files are.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    /// Whether these are the files that a run began with.
    ///
    /// # Errors
    /// Names the first that has other contents, is gone, or is new.
    pub fn are_those_of(&self, root: &Path) -> Result<(), Failure> {
        let begun = Self::read(root)?;
        // Those that are here as they were have just been read.
        let here: HashSet<&Fingerprint> = self.files.iter().collect();
        begun.refuse(|file| !here.contains(file))?;
        let there: HashSet<&Fingerprint> = begun.files.iter().collect();
        let Some(file) = self.files.iter().find(|file| !there.contains(file)) else {
            return Ok(());
        };
        Err(Failure::new(
            format!("this run began without {}", file.path.display()),
            "take the new file away until the run is done, or begin a new run with --out",
        ))
    }

    /// Whether every file is still what it was.
    ///
    /// # Errors
    /// Names the first that is gone or has other contents.
    pub fn unchanged(&self) -> Result<(), Failure> {
        self.refuse(|_| true)
    }

    /// Reads the suspects again.
    fn refuse(&self, suspect: impl Fn(&Fingerprint) -> bool + Sync) -> Result<(), Failure> {
        let faults: Vec<String> = self
            .files
            .par_iter()
            .filter(|file| suspect(file))
            .filter_map(Fingerprint::fault)
            .collect();
        let Some(first) = faults.first() else {
            return Ok(());
        };
        let others = match faults.len() - 1 {
            0 => String::new(),
            more => format!("; the like is true of {more} more of {}", self.files.len()),
        };
        Err(Failure::new(
            format!("this run began with other images: {first}{others}"),
            "put the files back as they were, or begin a new run with --out",
        ))
    }
}

impl Fingerprint {
    /// Reads enough of a file, or of the folder that an OME-Zarr image is, to tell it apart.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let mut hasher = Sha256::new();
        let bytes = if path.is_dir() {
            folder(path, &mut hasher)
        } else {
            file(path, &mut hasher)
        };
        Ok(Self {
            path: path.to_owned(),
            bytes: bytes.map_err(|e| Error::read(path, e))?,
            sha256: digest::hexadecimal(&hasher.finalize()),
        })
    }

    /// What is the matter with the file now, if anything.
    fn fault(&self) -> Option<String> {
        let name = self.path.display();
        match Self::of(&self.path) {
            Err(_) if !self.path.exists() => Some(format!("{name} is gone")),
            Err(error) => Some(error.to_string()),
            Ok(found) if found != *self => Some(format!(
                "{name} had {} bytes of SHA-256 {} and has {} of {}",
                self.bytes, self.sha256, found.bytes, found.sha256
            )),
            Ok(_) => None,
        }
    }
}

/// The whole of a file, or both ends of a large one. Returns its length.
fn file(path: &Path, hasher: &mut Sha256) -> std::io::Result<u64> {
    let mut file = File::open(path)?;
    let bytes = file.metadata()?.len();
    if bytes <= WHOLE {
        digest::update(hasher, file)?;
    } else {
        digest::update(hasher, (&mut file).take(WHOLE / 2))?;
        file.seek(SeekFrom::End(-((WHOLE / 2) as i64)))?;
        digest::update(hasher, file)?;
    }
    Ok(bytes)
}

/// Names and lengths of all files of a folder, and as much of their contents, in the order of their names, as is read of a
/// large file. Returns the length of all.
fn folder(root: &Path, hasher: &mut Sha256) -> std::io::Result<u64> {
    let mut paths = Vec::new();
    files_of(root, &mut paths)?;
    paths.sort();
    let (mut bytes, mut left) = (0, WHOLE);
    for path in paths {
        let file = File::open(&path)?;
        let length = file.metadata()?.len();
        let name = path.strip_prefix(root).unwrap_or(&path);
        hasher.update(name.to_string_lossy().as_bytes());
        hasher.update([0]);
        hasher.update(length.to_le_bytes());
        left -= digest::update(hasher, file.take(left))?;
        bytes += length;
    }
    Ok(bytes)
}

fn files_of(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_of(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_knows_its_images_again_and_others_apart() {
        let here = tempfile::tempdir().unwrap();
        let at = |name: &str| here.path().join(name);
        std::fs::create_dir_all(at("c.zarr/0/1")).unwrap();
        for (name, text) in [("a.tif", "one"), ("b.tif", "two"), ("c.zarr/.zattrs", "{}")] {
            std::fs::write(at(name), text).unwrap();
        }
        std::fs::write(at("c.zarr/0/1/0"), "chunk").unwrap();
        let begun = RunInputs::of(&["a.tif", "b.tif", "c.zarr"].map(at), vec!["d".into()]).unwrap();
        assert_eq!(begun.files[2].bytes, 7);
        begun.write(here.path()).unwrap();
        let begun = RunInputs::read(here.path()).unwrap();
        assert!(begun.unchanged().is_ok());

        std::fs::write(at("c.zarr/0/1/0"), "other").unwrap();
        let told = begun.unchanged().unwrap_err().to_string();
        assert!(told.contains("c.zarr had 7 bytes of SHA-256") && !told.contains("more of"));
        std::fs::remove_file(at("b.tif")).unwrap();
        let told = begun.unchanged().unwrap_err().to_string();
        assert!(
            told.contains("b.tif is gone; the like is true of 1 more of 3"),
            "{told}"
        );
    }

    #[test]
    fn large_files_are_told_apart_by_their_ends() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("large");
        let file = File::create(&path).unwrap();
        file.set_len(WHOLE + 1000).unwrap();
        let first = Fingerprint::of(&path).unwrap();
        assert_eq!(first.bytes, WHOLE + 1000);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() = 1;
        std::fs::write(&path, bytes).unwrap();
        assert_ne!(first.sha256, Fingerprint::of(&path).unwrap().sha256);
    }
}
