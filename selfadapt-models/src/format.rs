//! Recognising a model on disk, opening it, and writing it back in its own format.

use std::path::PathBuf;

use selfadapt_core::error::Result;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;

use crate::weights::{Layout, Weights};

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
pub type Save = fn(&std::path::Path, &dyn ModelConfig, &ParamSet, &Layout) -> Result<()>;

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
    /// SHA-256 of the weights file in lower-case hexadecimal; empty for a folder.
    pub sha256: String,
    /// Size of the weights file in bytes; 0 for a folder.
    pub bytes: u64,
    /// Order of names in the weights file.
    pub layout: Layout,
}
