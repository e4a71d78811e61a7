//! The run folder: what lies where, who may write, which snapshots are kept.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use selfadapt_core::adapt::{LoopState, StateNumbers};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_core::params::{ParamSet, Role};
use selfadapt_models::format::Provenance;
use selfadapt_models::weights::{Weights, safetensors};

/// A run folder that this process alone may write to.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// Held until the folder is let go; the system drops the lock even after a crash.
    _lock: File,
}

impl RunFolder {
    /// Opens or makes the folder and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another process is at work in it.
    pub fn open(root: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::write(root, e);
        std::fs::create_dir_all(root.join("snapshots")).map_err(failed)?;
        std::fs::create_dir_all(root.join("state")).map_err(failed)?;
        let lock = File::create(root.join("state").join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {
                for folder in [root, &root.join("snapshots"), &root.join("state")] {
                    sweep(folder).map_err(|e| Error::write(folder, e))?;
                }
                Ok(Self {
                    root: root.to_owned(),
                    _lock: lock,
                })
            }
            Err(TryLockError::WouldBlock) => Err(Error::write(
                root,
                "another selfadapt is at work in this folder; wait for it or choose another --out",
            )),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file directly inside.
    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the weights after `step` steps are kept.
    pub fn snapshot_path(&self, step: usize) -> PathBuf {
        self.root
            .join("snapshots")
            .join(format!("step-{step:06}.safetensors"))
    }

    /// Steps whose weights are kept, in order.
    ///
    /// # Errors
    /// If the folder cannot be listed.
    pub fn snapshots(&self) -> Result<Vec<usize>> {
        let folder = self.root.join("snapshots");
        let mut steps = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(|e| Error::read(&folder, e))? {
            let name = entry.map_err(|e| Error::read(&folder, e))?.file_name();
            let step: Option<usize> = name.to_str().and_then(|name| {
                name.strip_prefix("step-")?
                    .strip_suffix(".safetensors")?
                    .parse()
                    .ok()
            });
            steps.extend(step);
        }
        steps.sort_unstable();
        Ok(steps)
    }

    /// Keeps the weights after `step` steps.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn keep_snapshot(&self, step: usize, params: &ParamSet) -> Result<()> {
        write_params(&self.snapshot_path(step), params)
    }

    /// Thins the snapshots to at most `limit`: the first, the latest and `accepted` always stay, of the rest
    /// every second goes when there are too many.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn thin_snapshots(&self, accepted: usize, limit: usize) -> Result<()> {
        let steps = self.snapshots()?;
        for step in superfluous(&steps, accepted, limit.max(3)) {
            let path = self.snapshot_path(step);
            std::fs::remove_file(&path).map_err(|e| Error::write(&path, e))?;
        }
        Ok(())
    }

    /// Writes all that a run needs to go on, in one file: either the old state or the new one is there.
    /// `weights` is the SHA-256 of the pretrained model, for [`RunFolder::load_state`] to compare.
    ///
    /// # Errors
    /// If the disk is full or not writable.
    pub fn save_state(&self, state: &LoopState, accepted: usize, weights: &str) -> Result<()> {
        let path = self.root.join("state").join("loop.safetensors");
        let numbers = serde_json::to_string(&SavedNumbers {
            accepted,
            weights: weights.to_owned(),
            numbers: state.numbers.clone(),
        })
        .map_err(|e| Error::write(&path, e))?;
        let weights = Weights {
            tensors: state.tensors.clone().into_iter().collect(),
            metadata: [("selfadapt-loop".to_owned(), numbers)].into(),
            ..Weights::default()
        };
        safetensors::write(&path, &weights)
    }

    /// Reads what [`RunFolder::save_state`] wrote; `None` if the run never came so far.
    ///
    /// # Errors
    /// If the file is there and is not a state, or is one of a run that began with other weights.
    pub fn load_state(&self, pretrained: &Provenance) -> Result<Option<(LoopState, usize)>> {
        let path = self.root.join("state").join("loop.safetensors");
        if !path.exists() {
            return Ok(None);
        }
        let weights = safetensors::read(&path)?;
        let text = weights.metadata.get("selfadapt-loop").ok_or_else(|| {
            Error::read(&path, "expected the state of a run, found other tensors")
        })?;
        let saved: SavedNumbers = serde_json::from_str(text).map_err(|e| Error::read(&path, e))?;
        if saved.weights != pretrained.sha256 {
            return Err(Error::read(
                &path,
                format!(
                    "this run began with weights of SHA-256 {}, but {} has {}: put the old file back, or start a new run",
                    saved.weights,
                    pretrained.path.display(),
                    pretrained.sha256
                ),
            ));
        }
        let state = LoopState {
            tensors: weights.tensors.into_iter().collect(),
            numbers: saved.numbers,
        };
        Ok(Some((state, saved.accepted)))
    }

    /// Writes a text file whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        atomic::write_bytes(self.file(name), text.as_bytes())
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedNumbers {
    accepted: usize,
    weights: String,
    numbers: StateNumbers,
}

/// Removes what a killed run left half written; whoever holds the lock is the only writer.
fn sweep(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if atomic::is_unfinished(&entry.file_name()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Which of the kept steps go when more than `limit` are there: the first, the last and `accepted` stay.
pub fn superfluous(steps: &[usize], accepted: usize, limit: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = steps.to_vec();
    while kept.len() > limit {
        let last = kept.len() - 1;
        // Thin evenly: drop the inner snapshot whose neighbours lie closest together.
        let Some(drop) = (1..last)
            .filter(|&i| kept[i] != accepted)
            .min_by_key(|&i| kept[i + 1] - kept[i - 1])
        else {
            break;
        };
        kept.remove(drop);
    }
    steps
        .iter()
        .copied()
        .filter(|step| !kept.contains(step))
        .collect()
}

/// Writes parameters as safetensors.
///
/// # Errors
/// If the file cannot be written.
pub fn write_params(path: &Path, params: &ParamSet) -> Result<()> {
    let tensors = params
        .tensors()
        .map(|(name, tensor, _)| (name.to_owned(), tensor))
        .collect();
    safetensors::write(
        path,
        &Weights {
            tensors,
            ..Weights::default()
        },
    )
}

/// Reads parameters that [`write_params`] wrote.
///
/// # Errors
/// If the file is not one.
pub fn read_params(path: &Path, role: impl Fn(&str) -> Role) -> Result<ParamSet> {
    let weights = safetensors::read(path)?;
    let tensors: Vec<(String, Tensor)> = weights
        .tensors
        .into_iter()
        .map(|(name, tensor)| {
            let tensor = if tensor.dtype().is_float() {
                tensor.to_dtype(DType::F32)?
            } else {
                tensor
            };
            Ok((name, tensor))
        })
        .collect::<candle_core::Result<_>>()?;
    ParamSet::new(tensors, role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_the_first_the_last_and_the_accepted() {
        let steps: Vec<usize> = (0..=10).map(|i| i * 5).collect();
        let gone = superfluous(&steps, 15, 5);
        let kept: Vec<usize> = steps
            .iter()
            .copied()
            .filter(|s| !gone.contains(s))
            .collect();
        assert_eq!(kept.len(), 5);
        assert!(
            [0, 15, 50].iter().all(|step| kept.contains(step)),
            "{kept:?}"
        );
    }

    #[test]
    fn what_a_killed_run_left_half_written_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        drop(RunFolder::open(root).unwrap());
        let half = root.join("state/.loop.safetensorsX1y2z3.partial");
        let kept = [root.join(".notes"), root.join("mine.partial")];
        for path in kept.iter().chain([&half]) {
            std::fs::write(path, "x").unwrap();
        }
        drop(RunFolder::open(root).unwrap());
        assert!(!half.exists() && kept.iter().all(|path| path.exists()));
    }

    #[test]
    fn two_runs_cannot_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunFolder::open(folder.path()).unwrap();
        let message = RunFolder::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("another selfadapt"), "{message}");
        drop(first);
        RunFolder::open(folder.path()).unwrap();
    }
}
