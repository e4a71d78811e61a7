//! StarDist's model folders: recognised, opened (also zipped), and written for the package.

use std::any::Any;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;
use zip::ZipArchive;

use super::{StarDistConfig, keras, official, ours};
use crate::format::{Candidate, Contents, ModelFormat, Recognition};
use crate::weights::{Layout, hdf5};

const CONFIG: &str = "config.json";
const THRESHOLDS: &str = "thresholds.json";
const WEIGHTS: &str = "weights_best.h5";
/// What the package's files have no place for; the package leaves it alone.
const OURS: &str = "selfadapt.json";

/// Bytes of one file in a zip archive beyond which it is refused.
const MOST_BYTES: u64 = 4 << 30;

inventory::submit! {
    ModelFormat {
        name: "stardist",
        files: "a StarDist 2D model folder or its zip archive",
        recognises,
        open,
        save: Some(save),
    }
}

fn recognises(candidate: &Candidate) -> Recognition {
    match &candidate.contents {
        Contents::Folder(names) if names.iter().any(|name| name == CONFIG) => {
            stardist(&candidate.path.join(CONFIG))
        }
        Contents::Other(head) if head.starts_with(b"PK") => {
            let config = Archive::open(&candidate.path).and_then(|mut zip| zip.text(CONFIG));
            match config {
                Ok(Some(text)) if official::is_stardist(&text) => Recognition::Known,
                _ => Recognition::Foreign,
            }
        }
        Contents::Other(head) if hdf5::looks_like(head) => {
            let config = candidate.path.with_file_name(CONFIG);
            if config.is_file() {
                return stardist(&config);
            }
            Recognition::Refused(
                "an HDF5 file by itself: a StarDist model is a folder with config.json beside its weights; \
                 give the folder"
                    .to_owned(),
            )
        }
        _ => Recognition::Foreign,
    }
}

fn stardist(config: &Path) -> Recognition {
    match std::fs::read_to_string(config) {
        Ok(text) if official::is_stardist(&text) => Recognition::Known,
        _ => Recognition::Foreign,
    }
}

fn open(candidate: &Candidate) -> Result<(Box<dyn ModelConfig>, ParamSet)> {
    let path = &candidate.path;
    let found = match &candidate.contents {
        Contents::Folder(_) => open_folder(path, &chosen(path)?)?,
        Contents::Other(head) if head.starts_with(b"PK") => open_zip(path)?,
        _ => open_folder(path.parent().unwrap_or(Path::new(".")), path)?,
    };
    let mut config = official::read(&found.config, found.thresholds.as_deref())
        .map_err(|reason| Error::read(path, reason))?;
    if let Some(ours) = &found.ours {
        let read = ours::lay_over(&mut config, ours);
        read.map_err(|reason| Error::read(path, format!("{OURS}: {reason}")))?;
    }
    let read = |bytes| hdf5::parse(bytes).and_then(|arrays| keras::import(&config, &arrays));
    let tensors = read(found.bytes).map_err(|reason| Error::read(found.weights, reason))?;
    let params = ParamSet::new(tensors, StarDistConfig::role)?;
    Ok((Box::new(config), params))
}

/// The files of a model.
struct Found {
    config: String,
    thresholds: Option<String>,
    ours: Option<String>,
    /// Path and contents of the weights.
    weights: PathBuf,
    bytes: Vec<u8>,
}

fn open_folder(folder: &Path, weights: &Path) -> Result<Found> {
    let text = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| Error::read(&path, error))
    };
    let if_there = |name: &str| {
        let there = folder.join(name).is_file();
        there.then(|| text(name)).transpose()
    };
    Ok(Found {
        config: text(CONFIG)?,
        thresholds: if_there(THRESHOLDS)?,
        ours: if_there(OURS)?,
        weights: weights.to_owned(),
        bytes: std::fs::read(weights).map_err(|error| Error::read(weights, error))?,
    })
}

/// The weights that the package takes from a folder: the newest whose name has "best", else the newest.
fn chosen(folder: &Path) -> Result<PathBuf> {
    let failed = |error: std::io::Error| Error::read(folder, error);
    let mut found: Vec<(bool, SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if is_weights(&name) && path.is_file() {
            let written = path.metadata().and_then(|data| data.modified());
            found.push((name.contains("best"), written.map_err(failed)?, path));
        }
    }
    found.sort();
    found.pop().map(|(_, _, path)| path).ok_or_else(|| {
        Error::read(
            folder,
            "a StarDist model without weights: expected a file that ends in .h5 or .hdf5",
        )
    })
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".h5") || name.ends_with(".hdf5")
}

fn open_zip(path: &Path) -> Result<Found> {
    let mut zip = Archive::open(path)?;
    let config = zip
        .text(CONFIG)?
        .ok_or_else(|| Error::read(path, format!("there is no {CONFIG} in the archive")))?;
    let (thresholds, ours) = (zip.text(THRESHOLDS)?, zip.text(OURS)?);
    let mut weights: Vec<String> = zip
        .names
        .iter()
        .filter(|name| is_weights(name))
        .cloned()
        .collect();
    weights.sort_by_key(|name| (name.contains("best"), name.clone()));
    let weights = weights.pop().ok_or_else(|| {
        Error::read(
            path,
            "a StarDist model without weights: expected a file that ends in .h5 or .hdf5",
        )
    })?;
    let bytes = zip.bytes(&weights)?;
    Ok(Found {
        config,
        thresholds,
        ours,
        weights: path.join(weights),
        bytes,
    })
}

/// A zip archive of a model folder, or of its contents.
struct Archive {
    path: PathBuf,
    zip: ZipArchive<File>,
    /// The folder of config.json in it, with its slash.
    root: String,
    /// Names in that folder.
    names: Vec<String>,
}

impl Archive {
    fn open(path: &Path) -> Result<Self> {
        let failed = |error: &dyn std::fmt::Display| Error::read(path, error);
        let file = File::open(path).map_err(|error| failed(&error))?;
        let zip = ZipArchive::new(file).map_err(|error| failed(&error))?;
        let all: Vec<String> = zip
            .file_names()
            .map(|name| name.map(|name| name.to_string()))
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| failed(&error))?;
        let root = all
            .iter()
            .filter_map(|name| name.strip_suffix(CONFIG))
            .filter(|root| root.is_empty() || root.ends_with('/'))
            .min_by_key(|root| root.len())
            .unwrap_or_default()
            .to_owned();
        let names = all
            .iter()
            .filter_map(|name| name.strip_prefix(&root))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
            .collect();
        Ok(Self {
            path: path.to_owned(),
            zip,
            root,
            names,
        })
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let failed =
            |error: &dyn std::fmt::Display| Error::read(&self.path, format!("{name}: {error}"));
        let entry = self.zip.by_name(&format!("{}{name}", self.root));
        let entry = entry.map_err(|error| failed(&error))?;
        let mut bytes = Vec::new();
        let read = entry.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        match read {
            Ok(length) if length as u64 <= MOST_BYTES => Ok(bytes),
            Ok(_) => Err(failed(&format!("more than {MOST_BYTES} bytes"))),
            Err(error) => Err(failed(&error)),
        }
    }

    fn text(&mut self, name: &str) -> Result<Option<String>> {
        if !self.names.iter().any(|known| known == name) {
            return Ok(None);
        }
        let bytes = self.bytes(name)?;
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|error| Error::read(&self.path, format!("{name}: {error}")))
    }
}

/// Writes a folder that the package opens: weights first, config.json, which makes it a model, last.
fn save(path: &Path, config: &dyn ModelConfig, params: &ParamSet, _: &Layout) -> Result<()> {
    let config: &dyn Any = config;
    let config = config.downcast_ref::<StarDistConfig>().ok_or_else(|| {
        Error::Setting("only a StarDist model can be written as a StarDist folder".into())
    })?;
    let (settings, thresholds) =
        official::write(config).map_err(|reason| Error::write(path, reason))?;
    let layers = keras::export(config, params)?;
    std::fs::create_dir_all(path).map_err(|error| Error::write(path, error))?;
    hdf5::write_keras(path.join(WEIGHTS), &layers)?;
    atomic::write_bytes(path.join(THRESHOLDS), thresholds.as_bytes())?;
    let beside = ours::write(config).map_err(|reason| Error::write(path, reason))?;
    atomic::write_bytes(path.join(OURS), beside.as_bytes())?;
    atomic::write_bytes(path.join(CONFIG), settings.as_bytes())
}
