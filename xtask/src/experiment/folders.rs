//! Folders of an experiment: images put where runs look for them, and texts written.

use std::path::{Path, PathBuf};

use super::program::Program;
use crate::steps::Outcome;

/// Which images of a folder, and what is done to them.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// Where `<stem>.tif` and `<stem>_masks.tif` lie.
    pub from: &'a Path,
    /// Which.
    pub stems: &'a [String],
    /// `selfadapt degrade --kind`, where they are degraded.
    pub degraded: Option<&'a str>,
    /// Whether labels go along.
    pub labels: bool,
}

/// Puts images into the folder `to`, unless a file `to`.complete says that they are there.
///
/// # Errors
/// If a file cannot be read, degraded or written.
pub fn fill(program: &Program, to: &Path, choice: &Choice) -> Outcome {
    let complete = to.with_extension("complete");
    if complete.is_file() {
        return Ok(());
    }
    make(to)?;
    let image = |stem: &String| choice.from.join(format!("{stem}.tif"));
    if let Some(kind) = choice.degraded {
        let mut arguments = vec!["degrade".into(), "--kind".into(), kind.into()];
        arguments.extend(choice.labels.then(|| "--labels".into()));
        arguments.extend(["--out".into(), to.to_owned()]);
        arguments.extend(choice.stems.iter().map(image));
        program.run(arguments)?;
    } else {
        for stem in choice.stems {
            put(&image(stem), &to.join(format!("{stem}.tif")))?;
            if choice.labels {
                let labels = format!("{stem}_masks.tif");
                put(&choice.from.join(&labels), &to.join(&labels))?;
            }
        }
    }
    write(&complete, "")
}

/// Makes a folder and those above it.
///
/// # Errors
/// If the system refuses.
pub fn make(folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

/// A second name of a file, or a copy where the system gives none.
///
/// # Errors
/// If it cannot be copied.
pub fn put(from: &Path, to: &Path) -> Outcome {
    if to.exists() || std::fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    std::fs::copy(from, to)
        .map(|_| ())
        .map_err(|e| format!("{} to {}: {e}", from.display(), to.display()))
}

/// Writes a text.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, text: &str) -> Outcome {
    if let Some(folder) = path.parent() {
        make(folder)?;
    }
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Reads a text.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Stems of the `.tif` files of a folder, in order.
///
/// # Errors
/// If it cannot be listed.
pub fn stems(folder: &Path) -> Outcome<Vec<String>> {
    let fail = |e: std::io::Error| format!("{}: {e}", folder.display());
    let mut stems = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path: PathBuf = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|ending| ending == "tif") {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stems.extend(stem.map(str::to_owned));
        }
    }
    stems.sort();
    Ok(stems)
}
