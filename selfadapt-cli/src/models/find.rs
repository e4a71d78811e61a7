//! From what the user calls a model to a model in memory.

use std::path::{Component, Path, PathBuf};

use selfadapt_models::format::{self, Loaded};

use super::catalogue::{self, CATALOGUE, Entry};
use super::places::Places;
use crate::failure::Failure;

/// Opens a model by its path, or by the name under which it or its package keeps it on this machine.
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
    find(path_or_name, &Places::of_this_user())
}

/// The catalogue's model of a name, for commands that take only such names.
pub fn catalogued(name: &str, places: &Places) -> Result<&'static Entry, Failure> {
    catalogue::named(name).ok_or_else(|| unknown(name, places))
}

fn find(path_or_name: &str, places: &Places) -> Result<PathBuf, Failure> {
    let path = Path::new(path_or_name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_name(path_or_name) {
        return Err(Failure::new(
            format!("{path_or_name}: there is no such file or folder"),
            "--model takes the path of a model file or folder, or a name that `selfadapt models list` shows",
        ));
    }
    let Some(entry) = catalogue::named(path_or_name) else {
        return places
            .find_added(path_or_name)
            .ok_or_else(|| unknown(path_or_name, places));
    };
    places.find(entry).ok_or_else(|| {
        let searched: Vec<String> = [places.own.as_deref(), places.of(entry.family)]
            .into_iter()
            .flatten()
            .map(|folder| folder.display().to_string())
            .collect();
        Failure::new(
            format!(
                "{path_or_name}: a {} model that is not on this machine; looked in {}",
                entry.family.title(),
                searched.join(" and ")
            ),
            format!("get it with: selfadapt models fetch {path_or_name}"),
        )
    })
}

/// Whether a text can be a model's name: one component, and no extension of a file.
fn is_name(text: &str) -> bool {
    let path = Path::new(text);
    let mut parts = path.components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) && path.extension().is_none()
}

/// No model of this name, and which there are.
fn unknown(name: &str, places: &Places) -> Failure {
    if let Some(reason) = catalogue::impossible(name) {
        return Failure::new(
            format!("{name}: {reason}"),
            "`selfadapt models list` shows the models that work",
        );
    }
    let mut own = places.added();
    own.extend(places.cellpose_list());
    let names = CATALOGUE
        .iter()
        .map(|entry| entry.name)
        .chain(own.iter().map(String::as_str));
    let near = catalogue::near(name, names);
    let help = if near.is_empty() {
        "`selfadapt models list` shows all names; a path must lead to a file or folder".to_owned()
    } else {
        format!(
            "is it {}? `selfadapt models list` shows all names",
            near.join(" or ")
        )
    };
    Failure::new(
        format!("{name}: no file or folder of this name here, and no model is called so"),
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: &Path) -> Places {
        let at = |path: &str| Some(root.join(path));
        Places {
            own: at("own"),
            cellpose: at("cellpose"),
            stardist: None,
            deepcell: None,
        }
    }

    #[test]
    fn names_lead_to_files_and_never_to_another_model() {
        let root = tempfile::tempdir().unwrap();
        let places = places(root.path());
        std::fs::create_dir(root.path().join("cellpose")).unwrap();
        let file = root.path().join("cellpose/cyto2torch_0");
        std::fs::write(&file, []).unwrap();
        assert_eq!(find("cyto2", &places).unwrap(), file);
        let message = |name: &str| find(name, &places).unwrap_err().to_string();
        assert!(message("cyto").contains("not on this machine"));
        assert!(message("cyto22").contains("no model is called so"));
        assert!(message("cpsam").contains("Cellpose 4"));
        assert!(message("a/b.pt").contains("a/b.pt: there is no such file"));
        assert!(message("..x/..").contains("no such file"));
    }

    #[test]
    fn only_single_words_are_names() {
        for name in ["cyto3", "2D_versatile_fluo", "my-model"] {
            assert!(is_name(name), "{name}");
        }
        for path in ["", ".", "..", "a/b", "model.pt", "/"] {
            assert!(!is_name(path), "{path}");
        }
    }
}
