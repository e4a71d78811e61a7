//! From what the user calls a model to a model in memory.

use std::path::{Path, PathBuf};

use selfadapt_models::format::{self, Loaded};

use crate::failure::Failure;

/// Cellpose's names whose files are called otherwise (`models.model_path` of Cellpose 3.1.1).
const FILES: [(&str, &str); 3] = [
    ("cyto", "cytotorch_0"),
    ("cyto2", "cyto2torch_0"),
    ("nuclei", "nucleitorch_0"),
];

/// Opens a model by its path, or by the name under which its package keeps it on this machine.
///
/// Nothing is downloaded, and an unknown name is never replaced by another model.
pub fn open(path_or_name: &str) -> Result<Loaded, Failure> {
    let path = path(path_or_name)?;
    let loaded = format::open(&path).map_err(Failure::model)?;
    tracing::debug!(
        "{}: a {} model, sha256 {}",
        path.display(),
        loaded.provenance.format,
        loaded.provenance.sha256
    );
    Ok(loaded)
}

/// Where the model lies.
pub fn path(path_or_name: &str) -> Result<PathBuf, Failure> {
    find(path_or_name, &folders())
}

/// Where packages keep the models that they downloaded.
fn folders() -> Vec<PathBuf> {
    let cellpose = std::env::var_os("CELLPOSE_LOCAL_MODELS_PATH").map(PathBuf::from);
    let home = std::env::home_dir().map(|home| home.join(".cellpose/models"));
    cellpose.or(home).into_iter().collect()
}

fn find(path_or_name: &str, folders: &[PathBuf]) -> Result<PathBuf, Failure> {
    let path = Path::new(path_or_name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    let looks_like_a_name = path.components().count() == 1 && path.extension().is_none();
    if looks_like_a_name {
        let file = FILES
            .iter()
            .find(|(name, _)| *name == path_or_name)
            .map_or(path_or_name, |(_, file)| file);
        let found = folders.iter().map(|folder| folder.join(file));
        if let Some(found) = found.into_iter().find(|path| path.is_file()) {
            return Ok(found);
        }
        let folders: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
        return Err(Failure::new(
            format!(
                "{path_or_name}: no file or folder of this name here, and no {file} in {}",
                folders.join(", ")
            ),
            "give the path of a model file; Cellpose's own models are looked for where Cellpose keeps them \
             (CELLPOSE_LOCAL_MODELS_PATH, else ~/.cellpose/models)",
        ));
    }
    Err(Failure::new(
        format!("{path_or_name}: there is no such file or folder"),
        "--model takes the path of a model file or folder, or the name of a model that Cellpose downloaded",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_files_of_cellpose() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cyto2torch_0"), []).unwrap();
        let folders = [folder.path().to_owned()];
        let found = find("cyto2", &folders).unwrap();
        assert_eq!(found, folder.path().join("cyto2torch_0"));
        let message = find("cyto", &folders).unwrap_err().to_string();
        assert!(message.contains("no cytotorch_0 in"), "{message}");
        let message = find("a/b.pt", &folders).unwrap_err().to_string();
        assert!(
            message.contains("a/b.pt: there is no such file"),
            "{message}"
        );
    }
}
