//! manifest.json: what was run on what, and what came of it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_models::digest::hexadecimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The file's name in a run folder.
const FILE: &str = "manifest.json";

/// Files larger than this are told apart by their ends and their length.
const WHOLE: u64 = 32 << 20;

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

/// A file, told apart from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Where it was.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in hexadecimal; of a file over 32 MiB, of its first and last 16 MiB.
    pub sha256: String,
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
        let json = serde_json::to_string_pretty(self).map_err(|e| Error::Setting(e.to_string()))?;
        atomic::write_bytes(folder.join(FILE), (json + "\n").as_bytes())
    }
}

impl Fingerprint {
    /// Reads enough of a file to tell it apart.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::read(path, e);
        let mut file = File::open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut pass = |file: &mut File, mut left: u64| -> std::io::Result<()> {
            while left > 0 {
                let want = buffer
                    .len()
                    .min(usize::try_from(left).unwrap_or(usize::MAX));
                let got = file.read(&mut buffer[..want])?;
                if got == 0 {
                    break;
                }
                hasher.update(&buffer[..got]);
                left -= got as u64;
            }
            Ok(())
        };
        if bytes <= WHOLE {
            pass(&mut file, bytes).map_err(failed)?;
        } else {
            pass(&mut file, WHOLE / 2).map_err(failed)?;
            file.seek(SeekFrom::End(-((WHOLE / 2) as i64)))
                .map_err(failed)?;
            pass(&mut file, WHOLE / 2).map_err(failed)?;
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            sha256: hexadecimal(&hasher.finalize()),
        })
    }
}
