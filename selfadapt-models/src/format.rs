//! Recognising a model on disk, opening it, and writing it back in its own format.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::{Lend, ParamSet};

use crate::weights::{Layout, Weights, safetensors, torch};
use crate::{digest, run_folder};

/// How one model's files are recognised, opened and written.
///
/// Each model registers its own with `inventory::submit!` in its own file; nothing lists them.
pub struct ModelFormat {
    /// The model's name, the same as in `#[typetag::serde(name = "...")]`.
    pub name: &'static str,
    /// What its files are, for messages: "Cellpose 2 or 3 checkpoint (torch file)".
    pub files: &'static str,
    /// Whether the candidate is one of its files.
    pub recognises: fn(&Candidate) -> Recognition,
    /// Reads configuration and parameters from a candidate that it recognised.
    ///
    /// The names of a torch or safetensors file come without `DataParallel`'s `module.` and its
    /// floating-point tensors as f32.
    pub open: Open,
    /// Writes a file that the model's own package opens, atomically; none where no such writer exists.
    pub save: Option<Save>,
}

/// Reads a model's configuration and parameters from a candidate.
pub type Open = fn(&Candidate) -> Result<(Box<dyn ModelConfig>, ParamSet)>;

/// Writes a model to a path in its own format, keeping the layout (order of names) of where it came from.
pub type Save = fn(&Path, &dyn ModelConfig, &ParamSet, &Layout) -> Result<()>;

inventory::collect!(ModelFormat);

/// A format's opinion of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recognition {
    /// Not a file of this model.
    Foreign,
    /// A file of this model.
    Known,
    /// Of this model's family, and it cannot be opened: says why and what to try.
    Refused(String),
}

/// Something on disk that may be a model, looked at once.
#[derive(Debug)]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// What it holds.
    pub contents: Contents,
}

/// What kind of thing a candidate is.
#[derive(Debug)]
pub enum Contents {
    /// A folder, with the sorted names of its entries.
    Folder(Vec<String>),
    /// A torch or safetensors file: named tensors, ready for a network.
    Tensors(Weights),
    /// Any other file, with its first bytes (up to 64): readers open the path themselves.
    Other(Vec<u8>),
}

/// A model in memory, with what it came from.
#[derive(Debug)]
pub struct Loaded {
    /// Its configuration.
    pub config: Box<dyn ModelConfig>,
    /// Its parameters, on the CPU.
    pub params: ParamSet,
    /// Where it came from.
    pub provenance: Provenance,
}

/// Where a model came from: for manifests, and for writing it back as it was.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name of the [`ModelFormat`] that opened it.
    pub format: String,
    /// The file that held the weights, or the folder where a model is a folder.
    pub path: PathBuf,
    /// SHA-256 of the weights file, or of the folder's files ([`digest::of`]), in lower-case hexadecimal.
    pub sha256: String,
    /// Size of the weights file, or of the folder's files, in bytes.
    pub bytes: u64,
    /// Order of names in the weights file.
    pub layout: Layout,
}

/// The metadata key of a safetensors file under which its model's configuration stands, as JSON.
pub(crate) const CONFIG: &str = "selfadapt.config";

/// How many first bytes of a file a [`Candidate`] keeps.
const HEAD: u64 = 64;

/// Every registered format, by name.
pub fn formats() -> Vec<&'static ModelFormat> {
    let mut all: Vec<_> = inventory::iter::<ModelFormat>().collect();
    all.sort_by_key(|format| format.name);
    all
}

/// The format of a model's name.
///
/// # Errors
/// If no model of that name is registered; the message lists those that are.
pub fn named(name: &str) -> Result<&'static ModelFormat> {
    let all = formats();
    let found = all.iter().find(|format| format.name == name);
    found.copied().ok_or_else(|| {
        let known: Vec<_> = all.iter().map(|format| format.name).collect();
        Error::Setting(format!(
            "no model is called {name}; known are {}",
            known.join(", ")
        ))
    })
}

/// Opens a model: a run folder of ours, a checkpoint in torch's format, a safetensors file, a folder, or
/// whatever else a registered format recognises.
///
/// # Errors
/// If there is nothing at `path`, it is damaged, no format knows it (the message says what it looks like and
/// what is known), or its weights do not fit its model.
pub fn open(path: impl AsRef<Path>) -> Result<Loaded> {
    let path = path.as_ref();
    if path.join(run_folder::CONFIG_FILE).is_file() {
        return run_folder::open(path);
    }
    let candidate = look(path)?;
    if let Contents::Tensors(weights) = &candidate.contents
        && let Some(config) = weights.metadata.get(CONFIG)
    {
        let config: Box<dyn ModelConfig> = serde_json::from_str(config)
            .map_err(|error| Error::read(path, format!("its entry {CONFIG}: {error}")))?;
        return loaded(&candidate, config.typetag_name(), |_| {
            let params = ParamSet::new(weights.tensors.iter().cloned(), |name| config.role(name))?;
            Ok((config, params))
        });
    }
    let mut refusals = Vec::new();
    for format in formats() {
        match (format.recognises)(&candidate) {
            Recognition::Known => return loaded(&candidate, format.name, format.open),
            Recognition::Refused(reason) => refusals.push(reason),
            Recognition::Foreign => {}
        }
    }
    if !refusals.is_empty() {
        return Err(Error::read(path, refusals.join("; ")));
    }
    let known: Vec<_> = formats().iter().map(|format| format.files).collect();
    Err(Error::read(
        path,
        format!(
            "no known model: it is {}; known are: {}, a run folder or safetensors file of selfadapt",
            candidate.contents.describe(),
            known.join(", ")
        ),
    ))
}

/// Opens a recognised candidate and checks that its weights are those that its model asks for.
pub(crate) fn loaded(
    candidate: &Candidate,
    format: &str,
    open: impl FnOnce(&Candidate) -> Result<(Box<dyn ModelConfig>, ParamSet)>,
) -> Result<Loaded> {
    let path = &candidate.path;
    let (config, params) = open(candidate)?;
    params
        .lend(Lend::Detached, |weights| config.build(weights))
        .map_err(|error| Error::read(path, error))?;
    let (sha256, bytes) = digest::of(path).map_err(|error| Error::read(path, error))?;
    let layout = match &candidate.contents {
        Contents::Tensors(weights) => weights.layout.clone(),
        _ => Layout::default(),
    };
    Ok(Loaded {
        config,
        params,
        provenance: Provenance {
            format: format.to_owned(),
            path: path.clone(),
            sha256,
            bytes,
            layout,
        },
    })
}

/// Looks at what lies at `path`; a torch or safetensors file is read whole.
///
/// # Errors
/// If nothing is there, or a torch or safetensors file is damaged or hostile.
pub fn look(path: impl AsRef<Path>) -> Result<Candidate> {
    let path = path.as_ref();
    let failed = |error: std::io::Error| Error::read(path, error);
    let contents = if path.is_dir() {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            names.push(
                entry
                    .map_err(failed)?
                    .file_name()
                    .to_string_lossy()
                    .into_owned(),
            );
        }
        names.sort();
        Contents::Folder(names)
    } else {
        let mut head = Vec::new();
        let file = File::open(path).map_err(failed)?;
        file.take(HEAD).read_to_end(&mut head).map_err(failed)?;
        let zip = torch::is_zip(&head);
        if torch::is_legacy(&head) || (zip && torch::is_archive(path)?) {
            Contents::Tensors(torch::read(path)?.for_network()?)
        } else if safetensors::looks_like(&head) {
            Contents::Tensors(safetensors::read(path)?.for_network()?)
        } else {
            Contents::Other(head)
        }
    };
    Ok(Candidate {
        path: path.to_owned(),
        contents,
    })
}

impl Contents {
    /// What it looks like, for messages.
    fn describe(&self) -> String {
        let first =
            |names: &mut dyn Iterator<Item = &str>| names.take(4).collect::<Vec<_>>().join(", ");
        match self {
            Self::Folder(names) if names.is_empty() => "an empty folder".into(),
            Self::Folder(names) => format!(
                "a folder of {} entries ({}, ...)",
                names.len(),
                first(&mut names.iter().map(String::as_str))
            ),
            Self::Tensors(weights) => format!(
                "a file of {} tensors ({}, ...)",
                weights.tensors.len(),
                first(&mut weights.names())
            ),
            Self::Other(head) => looks(head).to_owned(),
        }
    }
}

/// What a file's first bytes look like.
fn looks(head: &[u8]) -> &'static str {
    const KNOWN: [(&[u8], &str); 10] = [
        (b"PK", "a zip archive without torch weights"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x1f\x8b", "a gzip archive; unpack it first"),
        (b"\x93NUMPY", "a numpy array"),
        (b"II*\0", "a TIFF image"),
        (b"MM\0*", "a TIFF image"),
        (b"\x89PNG", "a PNG image"),
        (
            b"<",
            "an HTML or XML page, as failed downloads leave behind",
        ),
        (
            b"version https://git-lfs",
            "a git-lfs pointer; run `git lfs pull` for the file itself",
        ),
        (b"\x80", "a Python pickle that torch did not write"),
    ];
    if head.is_empty() {
        return "an empty file";
    }
    let found = KNOWN.iter().find(|(magic, _)| head.starts_with(magic));
    found.map_or("a file of unknown kind", |(_, name)| name)
}
