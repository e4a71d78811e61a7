//! Which image leads to which files, checked before anything is computed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::outputs::Saves;
use crate::failure::Failure;

/// The images to segment and the folder that the results go to.
#[derive(Debug)]
pub struct Plan {
    pub images: Vec<PathBuf>,
    pub folder: PathBuf,
}

/// Makes the folder and checks that no result replaces an input or another image's result.
pub fn make(images: &[PathBuf], folder: &Path, saves: &Saves) -> Result<Plan, Failure> {
    prepare_folder(folder)?;
    // Links and `..` may hide that two paths are one file.
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let inputs: BTreeSet<PathBuf> = images.iter().map(|image| real(image)).collect();
    let mut owners: BTreeMap<PathBuf, &Path> = BTreeMap::new();
    for image in images {
        for path in saves.paths(image, folder) {
            if inputs.contains(&real(&path)) {
                return Err(Failure::new(
                    format!(
                        "{}: the result for {} would replace this input",
                        path.display(),
                        image.display()
                    ),
                    "choose another folder with --out, or leave this file out of the inputs",
                ));
            }
            if let Some(other) = owners.insert(path.clone(), image) {
                return Err(Failure::new(
                    format!(
                        "{} and {} would both be written to {}",
                        other.display(),
                        image.display(),
                        path.display()
                    ),
                    "run them one after the other into two folders, or rename one",
                ));
            }
        }
    }
    Ok(Plan {
        images: images.to_vec(),
        folder: folder.to_owned(),
    })
}

/// Makes the folder, and a file in it for a moment: hours of work should not end at a closed door.
fn prepare_folder(folder: &Path) -> Result<(), Failure> {
    let refuse = |reason: std::io::Error| {
        Failure::state(
            format!(
                "{}: cannot write into this folder: {reason}",
                folder.display()
            ),
            "choose a folder of your own with --out",
        )
    };
    std::fs::create_dir_all(folder).map_err(refuse)?;
    tempfile::tempfile_in(folder).map_err(refuse)?;
    Ok(())
}
