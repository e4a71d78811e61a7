//! One run of an experiment: done once, gone on with after an interruption, never mixed with other settings.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::Value;

use super::folders;
use super::program::Program;
use crate::steps::Outcome;

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `selfadapt adapt`, scored against the labels of a folder.
    Adapt,
    /// `selfadapt train`.
    Train,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it is, for people.
    pub title: String,
    /// What it does.
    pub kind: Kind,
    /// Its folder.
    pub run: PathBuf,
    /// The model that it starts from.
    pub model: PathBuf,
    /// Its images.
    pub images: PathBuf,
    /// Labels that it is scored against along the way.
    pub truth: Option<PathBuf>,
    /// Flags that change its result.
    pub flags: Vec<String>,
    /// Settings, as the command's `--config` takes them.
    pub config: String,
}

/// Does all jobs that are not done, in order, with a line before each.
///
/// # Errors
/// If a folder holds a run with other settings, or, once all others are done, if runs failed.
pub fn run_all(program: &Program, jobs: &[Job]) -> Outcome {
    all_went_well(&run_each(program, jobs)?)
}

/// As [`run_all`], but what failed is given back, a line each: a set that a model refuses is no reason to do without the
/// others.
///
/// # Errors
/// If a folder holds a run with other settings.
pub fn run_each(program: &Program, jobs: &[Job]) -> Outcome<Vec<String>> {
    let mut left: Vec<&Job> = Vec::new();
    let mut done = BTreeSet::new();
    for job in jobs {
        job.refuse_others()?;
        if job.is_finished() {
            done.insert(&job.run);
        } else if left.iter().all(|other| other.run != job.run) {
            left.push(job);
        }
    }
    if !done.is_empty() {
        let all = done.len() + left.len();
        println!("{} of {all} runs are there already", done.len());
    }
    let began = Instant::now();
    let mut failed = Vec::new();
    for (done, job) in left.iter().enumerate() {
        let minutes = began.elapsed().as_secs_f64() / 60.;
        let rest = match done {
            0 => String::new(),
            _ => {
                let to_come = minutes / done as f64 * (left.len() - done) as f64;
                format!(" ({minutes:.0} min so far, about {to_come:.0} to go)")
            }
        };
        println!("run {} of {}: {}{rest}", done + 1, left.len(), job.title);
        if let Err(reason) = job.run(program) {
            failed.push(format!("{}: {reason}", job.title));
        }
    }
    Ok(failed)
}

/// # Errors
/// If anything failed, with all that did.
pub fn all_went_well(failed: &[String]) -> Outcome {
    match failed {
        [] => Ok(()),
        _ => Err(format!(
            "these runs failed, the others are done:\n{}",
            failed.join("\n")
        )),
    }
}

impl Job {
    /// Whether it ran to its end.
    pub fn is_finished(&self) -> bool {
        let manifest = std::fs::read_to_string(self.run.join("manifest.json"));
        let manifest = manifest.map(|text| serde_json::from_str::<Value>(&text));
        // Ctrl-C ends a run early, but properly.
        matches!(manifest, Ok(Ok(manifest))
            if manifest["stopped_by"] != "user" && manifest["interrupted"] != true)
    }

    /// The settings, written beside the run; a later start compares them.
    fn memo(&self) -> (PathBuf, String) {
        let name = self.run.file_name().unwrap_or_default().to_string_lossy();
        let path = self.run.with_file_name(format!("{name}.toml"));
        (path, format!("# {}\n{}", self.flags.join(" "), self.config))
    }

    fn refuse_others(&self) -> Outcome {
        let (path, asked) = self.memo();
        match std::fs::read_to_string(&path) {
            Ok(there) if there != asked && self.run.exists() => Err(format!(
                "{}: this run was made with other settings ({}); choose another --out, or remove it",
                self.run.display(),
                path.display()
            )),
            _ => Ok(()),
        }
    }

    fn run(&self, program: &Program) -> Outcome {
        let (memo, asked) = self.memo();
        folders::write(&memo, &asked)?;
        program.run(self.arguments(&memo)?)
    }

    /// The command: a run that got as far as its settings goes on, any other begins.
    fn arguments(&self, memo: &Path) -> Outcome<Vec<OsString>> {
        let command = match self.kind {
            Kind::Adapt => "adapt",
            Kind::Train => "train",
        };
        let mut arguments: Vec<OsString> = vec![command.into()];
        let mut flag = |name: &str, value: &Path| {
            arguments.extend([name.into(), value.as_os_str().to_owned()]);
        };
        if let Some(truth) = &self.truth {
            flag("--truth", truth);
        }
        if self.run.join("config.toml").is_file() {
            flag("--resume", &self.run);
            return Ok(arguments);
        }
        if self.run.exists() {
            std::fs::remove_dir_all(&self.run)
                .map_err(|e| format!("{}: {e}", self.run.display()))?;
        }
        flag("--config", memo);
        flag("--model", &self.model);
        flag("--out", &self.run);
        arguments.extend(self.flags.iter().map(OsString::from));
        arguments.push(self.images.clone().into());
        Ok(arguments)
    }
}
