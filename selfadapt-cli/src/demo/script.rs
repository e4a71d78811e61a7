//! The commands that a user would give, given by the program to itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use selfadapt_core::error::Error;

use crate::device::DeviceChoice;
use crate::failure::Failure;

/// Runs this program's own subcommands, and says which.
pub struct Script {
    program: PathBuf,
    quiet: bool,
    /// Where the user gives one.
    device: Option<String>,
}

/// What `evaluate` says of a folder.
#[derive(Clone, Copy, Debug)]
pub struct Score {
    /// Labelled cells.
    pub truth: u64,
    /// Cells found.
    pub predicted: u64,
    /// Mean average precision at IoU 0.5.
    pub ap50: f64,
    /// The same at 0.75.
    pub ap75: f64,
}

impl Script {
    /// # Errors
    /// If the system does not tell where the program lies.
    pub fn new(quiet: bool, device: Option<DeviceChoice>) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|reason| {
            Failure::new(
                format!("cannot find this program's own file: {reason}"),
                "run the commands of the README one by one instead",
            )
        })?;
        Ok(Self {
            program,
            quiet,
            device: device.map(String::from),
        })
    }

    /// A line for people.
    pub fn say(&self, line: &str) {
        if !self.quiet {
            println!("{line}");
        }
    }

    /// Segments a folder.
    pub fn segment(&self, model: &Path, out: &Path, images: &Path) -> Result<(), Failure> {
        let mut arguments = vec![
            OsStr::new("--model"),
            model.as_os_str(),
            OsStr::new("--out"),
            out.as_os_str(),
        ];
        arguments.extend(self.device());
        arguments.push(images.as_os_str());
        self.run("segment", &arguments)
    }

    /// Adapts a model to a folder.
    pub fn adapt(
        &self,
        model: &Path,
        out: &Path,
        images: &Path,
        config: &Path,
        seed: u64,
        steps: Option<usize>,
    ) -> Result<(), Failure> {
        let (seed, steps) = (seed.to_string(), steps.map(|steps| steps.to_string()));
        let mut arguments = vec![
            OsStr::new("--model"),
            model.as_os_str(),
            OsStr::new("--config"),
            config.as_os_str(),
            OsStr::new("--out"),
            out.as_os_str(),
        ];
        if seed != "0" {
            arguments.extend([OsStr::new("--seed"), OsStr::new(&seed)]);
        }
        if let Some(steps) = &steps {
            arguments.extend([OsStr::new("--steps"), OsStr::new(steps)]);
        }
        arguments.extend(self.device());
        arguments.push(images.as_os_str());
        self.run("adapt", &arguments)
    }

    /// The flag that chooses a device, where the user has.
    fn device(&self) -> impl Iterator<Item = &OsStr> {
        let device = self.device.iter();
        device.flat_map(|device| [OsStr::new("--device"), OsStr::new(device)])
    }

    /// Scores a folder of masks.
    pub fn score(&self, masks: &Path, truth: &Path) -> Result<Score, Failure> {
        let json = masks.with_extension("json");
        let arguments = [
            OsStr::new("--pred"),
            masks.as_os_str(),
            OsStr::new("--truth"),
            truth.as_os_str(),
            OsStr::new("--json"),
            json.as_os_str(),
        ];
        self.run("evaluate", &arguments)?;
        let text = std::fs::read_to_string(&json).map_err(|e| Error::read(&json, e))?;
        let all: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| Error::read(&json, e))?;
        read_score(&all["overall"])
            .ok_or_else(|| Error::read(&json, "expected the scores of `evaluate`").into())
    }

    fn run(&self, command: &str, arguments: &[&OsStr]) -> Result<(), Failure> {
        let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
        self.say(&format!("$ selfadapt {command} {}", words.join(" ")));
        let threads = rayon::current_num_threads().to_string();
        let mut child = Command::new(&self.program);
        child.arg(command).args(["--threads", &threads]);
        // The adaptation alone takes long enough to be watched.
        if self.quiet || command != "adapt" {
            child.arg("--quiet");
        }
        let ended = child.args(arguments).stdout(Stdio::null()).status();
        let failed = |what: String| {
            Failure::new(
                format!("selfadapt {command}: {what}"),
                "its message is above; run the command that was printed by itself to see more",
            )
        };
        match ended {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(format!("ended with {status}"))),
            Err(reason) => Err(failed(reason.to_string())),
        }
    }
}

/// The scores that `evaluate --json` gives of all images together.
fn read_score(overall: &serde_json::Value) -> Option<Score> {
    let at = |threshold: f64| {
        let all = overall["average_precision"].as_array()?;
        let found = all.iter().find(|at| at["threshold"] == threshold)?;
        found["ap"].as_f64()
    };
    Some(Score {
        truth: overall["truths"].as_u64()?,
        predicted: overall["predictions"].as_u64()?,
        ap50: at(0.5)?,
        ap75: at(0.75)?,
    })
}
