//! Where models lie on this machine: SelfAdapt's own folder, and those of the packages.

use std::env;
use std::path::{Path, PathBuf};

use super::catalogue::{Entry, Family};
use crate::failure::Failure;

/// The variable that names SelfAdapt's own folder of models.
pub const OWN: &str = "SELFADAPT_MODELS_PATH";

/// Folders of models; none where neither a variable nor the home folder tells.
#[derive(Debug)]
pub struct Places {
    /// What `models fetch` and `models add` write: `SELFADAPT_MODELS_PATH`, else `~/.selfadapt/models`.
    pub own: Option<PathBuf>,
    /// Cellpose's: `CELLPOSE_LOCAL_MODELS_PATH`, else `~/.cellpose/models`.
    pub cellpose: Option<PathBuf>,
    /// StarDist's: `KERAS_HOME`, else `~/.keras`, and there `models/StarDist2D`.
    pub stardist: Option<PathBuf>,
    /// DeepCell's: `~/.deepcell/models`.
    pub deepcell: Option<PathBuf>,
}

impl Places {
    /// As the environment says.
    pub fn of_this_user() -> Self {
        let set = |name: &str| {
            env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = env::home_dir();
        let at_home = |path: &str| home.as_ref().map(|home| home.join(path));
        Self {
            own: set(OWN).or_else(|| at_home(".selfadapt/models")),
            cellpose: set("CELLPOSE_LOCAL_MODELS_PATH").or_else(|| at_home(".cellpose/models")),
            stardist: set("KERAS_HOME")
                .or_else(|| at_home(".keras"))
                .map(|keras| keras.join("models/StarDist2D")),
            deepcell: at_home(".deepcell/models"),
        }
    }

    /// SelfAdapt's own folder.
    ///
    /// # Errors
    /// If there is neither a variable nor a home folder.
    pub fn own(&self) -> Result<&Path, Failure> {
        self.own.as_deref().ok_or_else(|| {
            Failure::new(
                "there is no home folder to keep models in",
                format!("name a folder in {OWN}"),
            )
        })
    }

    /// The folder in which a family's package keeps its models.
    pub fn of(&self, family: Family) -> Option<&Path> {
        match family {
            Family::Cellpose => self.cellpose.as_deref(),
            Family::StarDist => self.stardist.as_deref(),
            Family::Mesmer => self.deepcell.as_deref(),
        }
    }

    /// Where a model of the catalogue lies: in our own folder, else in its package's.
    pub fn find(&self, entry: &Entry) -> Option<PathBuf> {
        let own = self.own.as_ref().map(|own| own.join(entry.local()));
        if let Some(own) = own.filter(|path| path.exists()) {
            return Some(own);
        }
        self.find_in_package(entry)
    }

    /// Where a model of the catalogue lies in its package's folder.
    pub fn find_in_package(&self, entry: &Entry) -> Option<PathBuf> {
        let folder = self.of(entry.family)?;
        match entry.family {
            Family::Cellpose => Some(folder.join(entry.file)).filter(|path| path.is_file()),
            Family::StarDist => {
                // Keras unpacks beside the archive, from version 3.6 on into a folder of its own.
                let (folder, name) = (folder.join(entry.name), entry.name);
                let unpacked = [
                    folder.clone(),
                    folder.join(format!("{name}_extracted")),
                    folder.join(name),
                ];
                let model = |path: &PathBuf| path.join("config.json").is_file();
                let archive = folder.join(format!("{name}.zip"));
                unpacked
                    .into_iter()
                    .find(model)
                    .or(Some(archive).filter(|path| path.is_file()))
            }
            Family::Mesmer => {
                Some(folder.join("MultiplexSegmentation")).filter(|path| path.is_dir())
            }
        }
    }

    /// Where a model lies that is not in the catalogue: one that was added here or in Cellpose.
    pub fn find_added(&self, name: &str) -> Option<PathBuf> {
        let own = self.own.as_ref().map(|own| own.join(name));
        let cellpose = self.cellpose.as_ref().map(|folder| folder.join(name));
        own.filter(|path| path.exists())
            .or(cellpose.filter(|path| path.is_file()))
    }

    /// Names of models that were added here: folders with a `model.json`, in order.
    pub fn added(&self) -> Vec<String> {
        let listed = self.own.as_ref().and_then(|own| own.read_dir().ok());
        let mut names: Vec<String> = listed
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let whole = !name.starts_with('.')
                    && entry
                        .path()
                        .join(selfadapt_models::run_folder::CONFIG_FILE)
                        .is_file();
                whole.then_some(name)
            })
            .collect();
        names.sort();
        names
    }

    /// Names on Cellpose's own list of users' models whose files are there.
    pub fn cellpose_list(&self) -> Vec<String> {
        let Some(folder) = &self.cellpose else {
            return Vec::new();
        };
        let text = std::fs::read_to_string(folder.join("gui_models.txt")).unwrap_or_default();
        text.lines()
            .map(str::trim)
            .filter(|name| !name.is_empty() && folder.join(name).is_file())
            .map(str::to_owned)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::catalogue::named;

    #[test]
    fn finds_what_packages_downloaded_and_prefers_our_own() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| Some(root.path().join(path));
        let places = Places {
            own: at("own"),
            cellpose: at("cellpose"),
            stardist: at("keras"),
            deepcell: at("deepcell"),
        };
        let file = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, []).unwrap();
            path
        };
        let find = |name: &str| places.find(named(name).unwrap());
        for name in ["cyto2", "2D_demo", "mesmer"] {
            assert_eq!(find(name), None);
        }
        let cyto2 = file("cellpose/cyto2torch_0");
        assert_eq!(find("cyto2"), Some(cyto2));
        let archive = file("keras/2D_demo/2D_demo.zip");
        assert_eq!(find("2D_demo"), Some(archive));
        let unpacked = file("keras/2D_demo/2D_demo_extracted/config.json");
        assert_eq!(find("2D_demo").as_deref(), unpacked.parent());
        file("deepcell/MultiplexSegmentation/saved_model.pb");
        assert_eq!(find("mesmer"), at("deepcell/MultiplexSegmentation"));
        let own = file("own/cyto2torch_0");
        assert_eq!(find("cyto2"), Some(own));

        let custom = file("cellpose/mine");
        std::fs::write(at("cellpose/gui_models.txt").unwrap(), "mine\ngone\n").unwrap();
        assert_eq!(places.find_added("mine"), Some(custom));
        assert_eq!(places.cellpose_list(), ["mine"]);
        file("own/adapted/model.json");
        file("own/.half.partial/model.json");
        assert_eq!(places.added(), ["adapted"]);
    }
}
