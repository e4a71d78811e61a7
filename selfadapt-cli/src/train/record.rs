//! What a training leaves beside its weights: run.jsonl, manifest.json, and the state to go on from.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_core::supervise::train::{EpochReport, TrainState};
use selfadapt_models::weights::{Weights, safetensors};
use serde::{Deserialize, Serialize};

use crate::inputs::Fingerprint;

/// One line of run.jsonl.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// An epoch is done.
    Epoch(EpochReport),
}

/// manifest.json: what was trained on what, and what came of it.
#[derive(Debug, Serialize)]
pub struct Manifest {
    /// Version of this program.
    pub selfadapt: String,
    /// The command as it was given.
    pub command: Vec<String>,
    /// Threads that computed; other numbers change the last bits of the weights.
    pub threads: usize,
    /// What the networks computed on: `cpu` or `cuda:N`.
    pub device: String,
    /// Seed.
    pub seed: u64,
    /// The weights that it started from; none where they were drawn.
    pub weights: Option<Fingerprint>,
    /// Images, each followed by its labels.
    pub inputs: Vec<Fingerprint>,
    /// Objects that were learned from.
    pub objects: usize,
    /// Their mean diameter in pixels, over images, where the model scales by it.
    pub diameter: Option<f64>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Epochs that were done.
    pub epochs: usize,
    /// Mean loss of the last epoch.
    pub loss: f64,
    /// Whether the user ended it early.
    pub interrupted: bool,
    /// Wall time.
    pub seconds: f64,
}

impl Manifest {
    /// Writes it into a run folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        atomic::write_json(folder.join("manifest.json"), self).map(drop)
    }
}

/// Rewrites a record with the epochs up to `epoch`, and opens it for those that follow.
///
/// # Errors
/// If the file cannot be read or written.
pub fn reopen(path: &Path, epoch: usize) -> Result<File> {
    let kept = match epoch {
        0 => String::new(),
        _ => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
            let kept = text.lines().filter(|line| {
                serde_json::from_str(line).is_ok_and(|Line::Epoch(report)| report.epoch <= epoch)
            });
            kept.map(|line| format!("{line}\n")).collect()
        }
    };
    atomic::write_bytes(path, kept.as_bytes())?;
    let file = OpenOptions::new().append(true).open(path);
    file.map_err(|e| Error::write(path, e))
}

/// Appends a line and hands it to the system at once.
///
/// # Errors
/// If the disk is full or not writable.
pub fn push(file: &mut File, path: &Path, line: &Line) -> Result<()> {
    let text = serde_json::to_string(line).map_err(|e| Error::write(path, e))?;
    file.write_all(format!("{text}\n").as_bytes())
        .map_err(|e| Error::write(path, e))
}

/// The part of a state that is not a tensor, as it is saved.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Numbers {
    epoch: usize,
    optimiser_steps: u64,
    /// SHA-256 of the first weights; empty where they were drawn.
    weights: String,
    loss: f64,
}

const KEY: &str = "selfadapt-training";

fn place(root: &Path) -> PathBuf {
    root.join("state").join("training.safetensors")
}

/// Writes a state, in one file: either the old one or the new one is there.
///
/// # Errors
/// If the disk is full or not writable.
pub fn save(root: &Path, state: &TrainState, loss: f64, weights: &str) -> Result<()> {
    let path = place(root);
    let numbers = serde_json::to_string(&Numbers {
        epoch: state.epoch,
        optimiser_steps: state.optimiser_steps,
        weights: weights.to_owned(),
        loss,
    });
    let numbers = numbers.map_err(|e| Error::write(&path, e))?;
    let weights = Weights {
        tensors: state.tensors.clone().into_iter().collect(),
        metadata: [(KEY.to_owned(), numbers)].into(),
        ..Weights::default()
    };
    safetensors::write(&path, &weights)
}

/// Reads what [`save`] wrote, with the loss of its last epoch; none where the training never came so far.
///
/// # Errors
/// If the file is damaged, or belongs to a training that began with other weights.
pub fn load(root: &Path, weights: &str) -> Result<Option<(TrainState, f64)>> {
    let path = place(root);
    if !path.exists() {
        return Ok(None);
    }
    let file = safetensors::read(&path)?;
    let text = file.metadata.get(KEY);
    let text = text.ok_or_else(|| Error::read(&path, "expected the state of a training"))?;
    let numbers: Numbers = serde_json::from_str(text).map_err(|e| Error::read(&path, e))?;
    if numbers.weights != weights {
        return Err(Error::read(
            &path,
            "this training began with other weights: put the old file back, or start anew",
        ));
    }
    let state = TrainState {
        tensors: file.tensors.into_iter().collect(),
        epoch: numbers.epoch,
        optimiser_steps: numbers.optimiser_steps,
    };
    Ok(Some((state, numbers.loss)))
}
