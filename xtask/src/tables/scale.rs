//! How long the runs of a table are.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::experiment::folders;
use crate::steps::Outcome;

/// Lengths that are known by name; `xtask/scales` has their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Known {
    /// The paper's: weeks on a few processor cores
    Paper,
    /// The default preset's: minutes a run
    Small,
}

/// Which length.
#[derive(Clone, Debug, clap::Args)]
pub struct Wish {
    /// Length of the runs
    #[arg(long, value_enum, default_value = "small")]
    scale: Known,
    /// A length of one's own, written as xtask/scales/small.toml is, in place of --scale
    #[arg(long, value_name = "FILE")]
    scale_file: Option<PathBuf>,
}

/// Lengths and settings of all runs of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// `selfadapt adapt --preset`.
    pub preset: String,
    /// `selfadapt adapt --mode`; empty leaves the preset's.
    pub mode: String,
    /// At most so many images are adapted to and learned from; 0: all.
    pub adapted: usize,
    /// At most so many images are scored; 0: all.
    pub scored: usize,
    /// Laid over the preset: a `--config` of `selfadapt adapt`.
    pub adapt: toml::Table,
    /// A `--config` of `selfadapt train`.
    pub train: toml::Table,
}

impl Wish {
    /// Its numbers.
    ///
    /// # Errors
    /// If a file of one's own cannot be read or says something else.
    pub fn scale(&self) -> Outcome<Scale> {
        match &self.scale_file {
            Some(path) => parse(path, &folders::read(path)?),
            None => self.scale.scale(),
        }
    }
}

impl Known {
    fn scale(self) -> Outcome<Scale> {
        let (name, text) = match self {
            Self::Paper => ("paper.toml", include_str!("../../scales/paper.toml")),
            Self::Small => ("small.toml", include_str!("../../scales/small.toml")),
        };
        parse(Path::new(name), text)
    }
}

fn parse(path: &Path, text: &str) -> Outcome<Scale> {
    toml::from_str(text).map_err(|e| format!("{}: {e}", path.display()))
}

impl Scale {
    /// Flags of every adaptation.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--preset".to_owned(), self.preset.clone()];
        if !self.mode.is_empty() {
            flags.extend(["--mode".to_owned(), self.mode.clone()]);
        }
        flags
    }

    /// `--config` of an adaptation, with the strength of the pull towards the first weights where the paper names one.
    pub fn adapt(&self, l2sp: Option<&str>) -> String {
        let mut all = self.adapt.clone();
        if let Some(level) = l2sp {
            let objective = inner(&mut all, "adapt").and_then(|adapt| inner(adapt, "objective"));
            // Where the file has no table there, the binary refuses it by name.
            objective.map(|objective| objective.insert("l2sp".into(), level.into()));
        }
        all.to_string()
    }

    /// `--config` of a training.
    pub fn train(&self) -> String {
        self.train.to_string()
    }
}

/// The table of that name, made where it is missing.
fn inner<'a>(table: &'a mut toml::Table, name: &str) -> Option<&'a mut toml::Table> {
    let empty = || toml::Value::Table(toml::Table::new());
    table.entry(name).or_insert_with(empty).as_table_mut()
}

/// The first `most` of a list; all for 0.
pub fn at_most(mut stems: Vec<String>, most: usize) -> Vec<String> {
    if most > 0 {
        stems.truncate(most);
    }
    stems
}
