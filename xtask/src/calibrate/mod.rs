//! `cargo xtask calibrate`: sets x settings x seeds, by running the binary and reading its records.

mod sets;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps::Outcome;
use sets::{Half, SETS, Set};

/// Calibrates on sets made from the reference data. What is done already is not done again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of reference data
    #[arg(long, default_value = "../shared/assets")]
    assets: PathBuf,
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
    /// Seeds 0, 1, ...
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The binary; built first where not given
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Runs the task.
///
/// # Errors
/// If the binary cannot be built, a set cannot be made, or a run fails.
pub fn run(args: &Args) -> Outcome {
    let binary = match &args.binary {
        Some(path) => path.clone(),
        None => build()?,
    };
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
    let runs = chosen.len() * args.setting.len() * args.seeds as usize;
    let mut rows = Vec::new();
    for set in chosen {
        let folder = make(&binary, args, set)?;
        for setting in &args.setting {
            let (name, flags) = setting.split_once('=').unwrap_or((setting, ""));
            for seed in 0..args.seeds {
                let run = args
                    .out
                    .join("runs")
                    .join(format!("{}-{name}-{seed}", set.name));
                if !run.join("manifest.json").is_file() {
                    println!(
                        "{} of {runs}: {} {name}, seed {seed}",
                        rows.len() + 1,
                        set.name
                    );
                    adapt(&binary, args, set, &folder, &run, flags, seed)?;
                }
                rows.push(table::row(set.name, name, seed, &run)?);
            }
        }
    }
    table::write(&args.out, &rows)
}

fn build() -> Result<PathBuf, String> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "selfadapt-cli"])
        .status()
        .map_err(|e| e.to_string())?;
    if !built.success() {
        return Err("the binary did not build".into());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    Ok(target.join("release").join("selfadapt"))
}

/// Makes `SET/adapt` and `SET/score`, unless they are there.
fn make(binary: &Path, args: &Args, set: &Set) -> Result<PathBuf, String> {
    let folder = args.out.join("sets").join(set.name);
    if folder.join("complete").is_file() {
        return Ok(folder);
    }
    let data = args.assets.join("data");
    let (adapt, score) = set.images.stems();
    for (part, stems, labelled) in [("adapt", &adapt, false), ("score", &score, true)] {
        let to = folder.join(part);
        std::fs::create_dir_all(&to).map_err(|e| format!("{}: {e}", to.display()))?;
        for stem in stems {
            let labels = format!("{stem}_masks.tif");
            let mut files = vec![format!("{stem}.tif")];
            files.extend(labelled.then_some(labels));
            if let Some(kind) = set.kind {
                let mut command = Command::new(binary);
                command.args(["degrade", "--kind", kind, "--out"]).arg(&to);
                command.args(stems.iter().map(|stem| data.join(format!("{stem}.tif"))));
                command.args(labelled.then_some("--labels"));
                succeed(&mut command)?;
                break;
            }
            for file in files {
                std::fs::copy(data.join(&file), to.join(&file))
                    .map_err(|e| format!("{file}: {e}"))?;
            }
        }
    }
    std::fs::write(folder.join("complete"), "").map_err(|e| e.to_string())?;
    Ok(folder)
}

fn adapt(
    binary: &Path,
    args: &Args,
    set: &Set,
    folder: &Path,
    run: &Path,
    flags: &str,
    seed: u64,
) -> Outcome {
    // What an interrupted calibration left behind is done anew, so that times are those of one piece.
    if run.exists() {
        std::fs::remove_dir_all(run).map_err(|e| format!("{}: {e}", run.display()))?;
    }
    let mut command = Command::new(binary);
    command
        .args(["--quiet", "adapt", "--model"])
        .arg(args.assets.join("cellpose/cyto_scellseg.pt"));
    command
        .arg("--out")
        .arg(run)
        .arg("--truth")
        .arg(folder.join("score"));
    command.args([
        "--diameter",
        &set.diameter.to_string(),
        "--channels",
        set.channels,
    ]);
    command.args(["--seed", &seed.to_string()]);
    command
        .args(flags.split_whitespace())
        .arg(folder.join("adapt"));
    succeed(&mut command)
}

fn succeed(command: &mut Command) -> Outcome {
    let status = command
        .stdout(Stdio::null())
        .status()
        .map_err(|e| e.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?} ended with {status}"))
    }
}
