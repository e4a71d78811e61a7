//! manifest.json: what was run on what, and what came of it.

use std::path::Path;

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use serde::{Deserialize, Serialize};

use crate::inputs::Fingerprint;

/// The file's name in a run folder.
const FILE: &str = "manifest.json";

/// The manifest of a run. Its last four entries are what scripts look for.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this program.
    pub selfadapt: String,
    /// The command as it was given.
    pub command: Vec<String>,
    /// Threads that computed; other numbers change the last bits of the weights.
    pub threads: usize,
    /// What the networks computed on: `cpu` or `cuda:N`.
    #[serde(default = "cpu")]
    pub device: String,
    /// Seed.
    pub seed: u64,
    /// The pretrained weights.
    pub weights: Fingerprint,
    /// The images.
    pub inputs: Vec<Fingerprint>,
    /// Steps taken.
    pub steps: usize,
    /// Mean average precision at IoU 0.5 of base, delivered and best snapshot, where labels were given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub truth: Option<TruthSummary>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What the run itself had delivered, where another snapshot was picked since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub picked_over: Option<RunsChoice>,
    /// The step whose weights were delivered; 0 is the pretrained model.
    pub delivered_step: usize,
    /// `end-of-schedule`, `user`, `budget`, or the criterion that crossed.
    pub stopped_by: String,
    /// The verdict in a sentence.
    pub verdict: String,
    /// Wall time.
    pub seconds: f64,
}

/// The device of runs that were made before there was a choice.
fn cpu() -> String {
    "cpu".into()
}

/// What a run delivered before a person picked another of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsChoice {
    /// The step that the run delivered.
    pub step: usize,
    /// The run's own verdict.
    pub verdict: String,
}

/// Scores along a run against given labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthSummary {
    /// Pretrained model, AP at IoU 0.5.
    pub base_ap50: f64,
    /// Pretrained model, AP at IoU 0.75.
    pub base_ap75: f64,
    /// Delivered model, AP at IoU 0.5.
    pub delivered_ap50: f64,
    /// Delivered model, AP at IoU 0.75.
    pub delivered_ap75: f64,
    /// The paper's "Test Max": the highest AP at IoU 0.5 of any reading.
    pub test_max_ap50: f64,
    /// Its step.
    pub test_max_step: usize,
}

impl Manifest {
    /// Reads the manifest of a finished run.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Err(Error::read(
                &path,
                "expected the manifest of a finished run; finish it with `selfadapt adapt --resume RUN`",
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
        serde_json::from_str(&text).map_err(|e| Error::read(&path, e))
    }

    /// Writes the manifest into a run folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        atomic::write_json(folder.join(FILE), self).map(drop)
    }
}
