//! `cargo xtask calibrate`: sets x settings x seeds, by running the binary and reading its records.

pub mod sets;
mod summary;
mod table;

use std::path::{Path, PathBuf};

use crate::experiment::folders::{Choice, fill};
use crate::experiment::job::{Job, Kind, all_went_well, run_each};
use crate::experiment::program::{Program, Which};
use crate::steps::Outcome;
use sets::{Half, SETS, Set};

/// Calibrates on sets made from the reference data. What is done already is not done again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of reference data
    #[arg(long, default_value = "../shared/assets")]
    assets: PathBuf,
    /// The model [default: cellpose/cyto_scellseg.pt of the reference data]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Where sets, runs and tables go
    #[arg(long, default_value = "target/calibrate")]
    out: PathBuf,
    /// Only this half of the sets
    #[arg(long, value_enum)]
    half: Option<Half>,
    /// Only these sets
    #[arg(long, value_delimiter = ',')]
    sets: Vec<String>,
    /// Settings to compare, each NAME or NAME=FLAGS for `selfadapt adapt`
    #[arg(long, default_values_t = ["default=".to_owned()])]
    setting: Vec<String>,
    /// Settings of all runs, as `selfadapt adapt --config` takes them
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seeds 0, 1, ...
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    #[command(flatten)]
    which: Which,
}

/// Runs the task.
///
/// # Errors
/// If the binary cannot be built, a set cannot be made, or, once the tables of the others are written, if a run failed.
pub fn run(args: &Args) -> Outcome {
    let program = args.which.program()?;
    let chosen: Vec<&Set> = SETS
        .iter()
        .filter(|set| args.half.is_none_or(|half| half == set.half))
        .filter(|set| args.sets.is_empty() || args.sets.iter().any(|name| name == set.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        return Err(format!(
            "no set of that name; known are {}",
            names.join(", ")
        ));
    }
    let config = match &args.config {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|reason| format!("{}: {reason}", path.display()))?,
        None => String::new(),
    };
    let mut jobs = Vec::new();
    let mut rows = Vec::new();
    for set in chosen {
        let folder = make(&program, args, set)?;
        for setting in &args.setting {
            let (name, flags) = setting.split_once('=').unwrap_or((setting, ""));
            for seed in 0..args.seeds {
                jobs.push(Job {
                    config: config.clone(),
                    ..adaptation(args, set, &folder, (name, flags), seed)
                });
                rows.push((set.name, name, seed));
            }
        }
    }
    let failed = run_each(&program, &jobs)?;
    let rows: Vec<table::Row> = rows
        .into_iter()
        .zip(&jobs)
        .filter(|(_, job)| job.is_finished())
        .map(|((set, name, seed), job)| table::row(set, name, seed, &job.run))
        .collect::<Outcome<_>>()?;
    table::write(&args.out, &rows)?;
    all_went_well(&failed)
}

/// Makes `SET/adapt` and `SET/score`, unless they are there.
fn make(program: &Program, args: &Args, set: &Set) -> Outcome<PathBuf> {
    let folder = args.out.join("sets").join(set.name);
    let (adapt, score) = set.images.stems();
    for (part, stems, labels) in [("adapt", &adapt, false), ("score", &score, true)] {
        let choice = Choice {
            from: &args.assets.join("data"),
            stems,
            degraded: set.kind,
            labels,
        };
        fill(program, &folder.join(part), &choice)?;
    }
    Ok(folder)
}

/// A run of a set with a setting (its name and flags) and a seed.
fn adaptation(args: &Args, set: &Set, folder: &Path, setting: (&str, &str), seed: u64) -> Job {
    let (name, flags) = setting;
    let diameter = set.diameter.to_string();
    // Cellpose's channels mean nothing to a model of another kind.
    let channels = ["--channels", set.channels];
    let channels = channels.into_iter().filter(|_| args.model.is_none());
    let all = ["--diameter", &diameter].into_iter().chain(channels);
    let seeded = ["--seed".to_owned(), seed.to_string()];
    let all = all.map(str::to_owned).chain(seeded);
    let runs = args.out.join("runs");
    let model = args.model.clone();
    let model = model.unwrap_or_else(|| args.assets.join("cellpose/cyto_scellseg.pt"));
    Job {
        title: format!("{} {name}, seed {seed}", set.name),
        kind: Kind::Adapt,
        run: runs.join(format!("{}-{name}-{seed}", set.name)),
        model,
        images: folder.join("adapt"),
        truth: Some(folder.join("score")),
        flags: all
            .chain(flags.split_whitespace().map(str::to_owned))
            .collect(),
        config: String::new(),
    }
}
