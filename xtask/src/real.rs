//! A real package beside ours: where the reference data, the Python and the binary are.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{Outcome, capture, cargo, root, succeed, timed};

/// What the tasks that run both programs take.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Reference data [default: SELFADAPT_ASSETS, else ../shared/assets]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Cargo profile of our binary
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Options {
    /// The folder of reference data.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn assets(&self) -> Outcome<PathBuf> {
        let named = self.assets.clone();
        let named = named.or_else(|| std::env::var_os("SELFADAPT_ASSETS").map(PathBuf::from));
        let folder = named.unwrap_or_else(|| root().join("../shared/assets"));
        folder
            .canonicalize()
            .map_err(|reason| format!("{}: no reference data: {reason}", folder.display()))
    }

    /// Builds our binary and says where it is.
    ///
    /// # Errors
    /// If it does not build.
    pub fn binary(&self) -> Outcome<PathBuf> {
        // One package alone would have some dependencies with other features, and all of them built again.
        self.build(&["--workspace", "--bin", "selfadapt"])?;
        Ok(self.built()?.join("selfadapt"))
    }

    /// Builds an example and says where it is.
    ///
    /// # Errors
    /// If it does not build.
    pub fn example(&self, name: &str) -> Outcome<PathBuf> {
        self.build(&["--workspace", "--example", name])?;
        Ok(self.built()?.join("examples").join(name))
    }

    fn build(&self, what: &[&str]) -> Outcome {
        let mut build = cargo(&["build", "--locked", "--profile", &self.profile]);
        build.args(what);
        succeed(build)
    }

    /// Where cargo puts what it builds.
    fn built(&self) -> Outcome<PathBuf> {
        let folder = match self.profile.as_str() {
            "dev" => "debug",
            other => other,
        };
        Ok(target()?.join(folder))
    }
}

/// Builds our binary for measurements and says where it is.
///
/// # Errors
/// If it does not build.
pub fn release() -> Outcome<PathBuf> {
    let options = Options {
        assets: None,
        profile: "release".into(),
    };
    options.binary()
}

/// Cargo's target folder.
///
/// # Errors
/// If cargo does not tell.
pub fn target() -> Outcome<PathBuf> {
    let metadata = capture(cargo(&["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|reason| reason.to_string())?;
    metadata["target_directory"]
        .as_str()
        .map(PathBuf::from)
        .ok_or_else(|| "cargo metadata names no target_directory".into())
}

/// A script of `tests/interop`, to be run by `python`.
pub fn script(python: &Path, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(root().join("tests/interop").join(name));
    command
}

/// The last line that a script printed, which is JSON; earlier ones are its package's chatter.
///
/// # Errors
/// If the script fails or prints no JSON.
pub fn findings(command: Command) -> Outcome<serde_json::Value> {
    let printed = capture(command)?;
    let last = printed.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|reason| format!("expected JSON, found {last:?}: {reason}"))
}

/// An empty folder below cargo's target folder.
///
/// # Errors
/// If it cannot be made.
pub fn scratch(name: &str) -> Outcome<PathBuf> {
    let folder = target()?.join("xtask").join(name);
    let fail = |reason: std::io::Error| format!("{}: {reason}", folder.display());
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(fail)?;
    }
    std::fs::create_dir_all(&folder).map_err(fail)?;
    Ok(folder)
}

/// Converts a model to safetensors, and that back to its package's own form.
///
/// # Errors
/// If a conversion fails.
pub fn convert_there_and_back(
    binary: &Path,
    original: &Path,
    middle: &Path,
    written: &Path,
) -> Outcome {
    timed("convert there and back", || {
        for (from, to) in [(original, middle), (middle, written)] {
            let mut convert = Command::new(binary);
            convert.args(["models", "convert"]).args([from, to]);
            succeed(convert)?;
        }
        Ok(())
    })
}
