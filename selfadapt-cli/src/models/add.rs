//! `selfadapt models add`: an adapted model gets a name, here and in Cellpose's list.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_models::format::Loaded;
use selfadapt_models::run_folder;
use serde::{Deserialize, Serialize};

use super::catalogue;
use super::find;
use super::places::Places;
use crate::failure::{Failure, Outcome};

/// The record in an added model's folder.
const FILE: &str = "added.toml";

/// Give an adapted model a name
///
/// Copies the model that a run delivered into the folder of models, so that `--model NAME` finds it wherever
/// you are, and the run's folder may go. With --to-cellpose it is also copied to where Cellpose keeps its
/// models and added to the list there, so that Cellpose's graphical interface and command line know the name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt models add run --name my-nuclei
  selfadapt models add run --name my-nuclei --to-cellpose
  selfadapt segment --model my-nuclei --out masks images/
  python -m cellpose --pretrained_model my-nuclei --dir images --save_tif")]
pub struct Args {
    /// Folder of a run, or a model file
    #[arg(value_name = "RUN")]
    run: String,
    /// The name: letters, digits, - and _
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Add it to Cellpose's models too
    #[arg(long)]
    to_cellpose: bool,
    /// Replace a model of that name
    #[arg(long)]
    force: bool,
}

/// Where an added model came from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Added {
    /// Name of the model's format.
    format: String,
    from: PathBuf,
    sha256: String,
    added_unix_seconds: u64,
}

impl Added {
    /// The record in a model's folder, if there is one.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path).map_err(|error| Error::read(&path, error))?;
        toml::from_str(&text)
            .map(Some)
            .map_err(|error| Error::read(&path, error))
    }

    /// For people.
    pub fn about(&self) -> String {
        format!("{}, from {}", self.format, self.from.display())
    }
}

pub fn run(args: Args) -> std::result::Result<Outcome, Failure> {
    check_name(&args.name)?;
    let places = Places::of_this_user();
    let loaded = find::open(&args.run)?;
    let folder = places.own()?.join(&args.name);
    let listed = args
        .to_cellpose
        .then(|| cellpose_file(&args, &loaded, &places))
        .transpose()?;
    refuse_taken(&folder, args.force)?;
    if let Some(file) = &listed {
        refuse_taken(file, args.force)?;
    }
    store(&loaded, &folder)?;
    println!("{}: {}", args.name, folder.display());
    if let Some(file) = listed {
        let parent = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|error| Error::write(parent, error))?;
        let native = folder.join(run_folder::NATIVE_FILE);
        let bytes = std::fs::read(&native).map_err(|error| Error::read(&native, error))?;
        atomic::write_bytes(&file, &bytes)?;
        enlist(&parent.join("gui_models.txt"), &args.name)?;
        println!("{}: {}, on Cellpose's list", args.name, file.display());
    }
    Ok(Outcome::Fine)
}

/// A name must go for a file's, and must not hide a model that everybody knows.
fn check_name(name: &str) -> std::result::Result<(), Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        return Err(Failure::new(
            format!("--name: expected letters, digits, - and _, found {name}"),
            "for example my-nuclei",
        ));
    }
    if catalogue::named(name).is_some() || catalogue::impossible(name).is_some() {
        return Err(Failure::new(
            format!("--name: {name} is the name of a pretrained model"),
            "choose a name of your own",
        ));
    }
    Ok(())
}

fn refuse_taken(path: &Path, force: bool) -> std::result::Result<(), Failure> {
    if path.exists() && !force {
        return Err(Failure::new(
            format!("{}: there is a model of this name already", path.display()),
            "choose another --name, or replace it with --force",
        ));
    }
    Ok(())
}

/// Where Cellpose would look for the model.
fn cellpose_file(
    args: &Args,
    loaded: &Loaded,
    places: &Places,
) -> std::result::Result<PathBuf, Failure> {
    let format = &loaded.provenance.format;
    if format != "cellpose" {
        return Err(Failure::new(
            format!(
                "--to-cellpose: {} is a {format} model, which Cellpose cannot open",
                args.run
            ),
            "leave --to-cellpose out",
        ));
    }
    let folder = places.cellpose.as_ref().ok_or_else(|| {
        Failure::new(
            "there is no home folder in which Cellpose would look",
            "name its folder of models in CELLPOSE_LOCAL_MODELS_PATH",
        )
    })?;
    Ok(folder.join(&args.name))
}

/// Writes the model's folder beside its place, then gives it its name.
fn store(loaded: &Loaded, folder: &Path) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.with_file_name(format!(".{name}.partial"));
    let failed = |error: std::io::Error| Error::write(folder, error);
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(failed)?;
    }
    std::fs::create_dir_all(&partial).map_err(failed)?;
    let from = &loaded.provenance;
    run_folder::write(
        &partial,
        loaded.config.as_ref(),
        &loaded.params,
        &from.layout,
    )?;
    let added = Added {
        format: from.format.clone(),
        from: std::path::absolute(&from.path).unwrap_or_else(|_| from.path.clone()),
        sha256: from.sha256.clone(),
        added_unix_seconds: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs()),
    };
    let text = toml::to_string(&added).map_err(|error| Error::write(folder, error))?;
    atomic::write_bytes(partial.join(FILE), text.as_bytes())?;
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(failed)?;
    }
    std::fs::rename(&partial, folder).map_err(failed)
}

/// Adds a line to Cellpose's list, as `io.add_model` of Cellpose 3.1.1 does.
fn enlist(list: &Path, name: &str) -> Result<()> {
    let mut text = match std::fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Error::read(list, error)),
    };
    if text.lines().any(|line| line.trim_end() == name) {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(name);
    text.push('\n');
    atomic::write_bytes(list, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_enlisted_once() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("gui_models.txt");
        std::fs::write(&list, "old").unwrap();
        enlist(&list, "new").unwrap();
        enlist(&list, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&list).unwrap(), "old\nnew\n");
    }

    #[test]
    fn names_of_pretrained_models_and_of_files_elsewhere_are_refused() {
        for name in ["", "-x", "a/b", "..", "cyto3", "cpsam", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("my-nuclei_2").is_ok());
    }
}
