//! `selfadapt pick`: another stored snapshot of a run becomes the delivered model.

use std::path::PathBuf;

use selfadapt_core::error::Result;
use selfadapt_models::{format, run_folder};

use crate::adapt::deliver;
use crate::adapt::folder::{RunFolder, read_params};
use crate::adapt::manifest::{Manifest, RunsChoice};
use crate::adapt::settings::RunConfig;
use crate::adapt::{curves, record};
use crate::failure::{Failure, Outcome};
use crate::report;

/// Deliver another snapshot of a run
///
/// A run keeps weights of several of its steps. Look at them in RUN/report.html, choose one by eye, and
/// make it the model that the folder stands for. Step 0 is the pretrained model. Without --step the steps
/// that are stored are listed. Nothing is lost: pick again to go back.
///
/// Examples:
///   selfadapt pick run
///   selfadapt pick run --step 15
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder of a finished run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The step whose weights are delivered from now on
    #[arg(long, value_name = "N")]
    step: Option<usize>,
}

/// Runs the subcommand.
///
/// # Errors
/// If the folder holds no finished run, the step is not stored, or a file cannot be written.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    let config = RunConfig::read(&args.run)?;
    let folder = RunFolder::open(&args.run)?;
    let manifest = Manifest::read(folder.root())?;
    let stored = folder.snapshots()?;
    let list = |steps: &[usize]| {
        let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
        steps.join(", ")
    };
    let Some(step) = args.step else {
        println!("stored: {}", list(&stored));
        println!("delivered: {}", manifest.delivered_step);
        return Ok(Outcome::Fine);
    };
    if !stored.contains(&step) {
        return Err(Failure::new(
            format!(
                "{}: no weights of step {step} are stored",
                args.run.display()
            ),
            format!("stored are the steps {}", list(&stored)),
        ));
    }
    let before = manifest.delivered_step;
    let manifest = deliver_step(&folder, &config, manifest, step)?;
    println!("{}", manifest.verdict);
    println!(
        "{}: step {before} -> step {step}; use it with: selfadapt segment --model {} --out masks IMAGES",
        folder.file(run_folder::NATIVE_FILE).display(),
        folder.root().display()
    );
    match report::write(&folder) {
        Ok(path) => println!("report: {}", path.display()),
        Err(reason) => tracing::warn!("the model is delivered, but its report is not: {reason}"),
    }
    Ok(Outcome::Fine)
}

/// Replaces the delivered weights, and says so in the manifest.
fn deliver_step(
    folder: &RunFolder,
    config: &RunConfig,
    mut manifest: Manifest,
    step: usize,
) -> Result<Manifest> {
    // The layout of the file that the pretrained weights came in, as the run has passed it on.
    let layout = format::open(folder.root())?.provenance.layout;
    let params = read_params(&folder.snapshot_path(step), |name| config.model.role(name))?;
    run_folder::write(folder.root(), config.model.as_ref(), &params, &layout)?;

    let chosen = manifest.picked_over.take().unwrap_or_else(|| RunsChoice {
        step: manifest.delivered_step,
        verdict: manifest.verdict.clone(),
    });
    manifest.delivered_step = step;
    if step == chosen.step {
        manifest.verdict = chosen.verdict;
    } else {
        manifest.verdict = format!(
            "the weights of step {step} are delivered, picked by hand; the run itself chose step {}",
            chosen.step
        );
        manifest.picked_over = Some(chosen);
    }
    let lines = record::read(&folder.file("run.jsonl"))?;
    manifest.truth = deliver::summary(&lines, step);
    manifest.write(folder.root())?;
    let curves = curves::draw(&lines, &config.thresholds(), step);
    folder.write_text("curves.svg", &curves)?;
    Ok(manifest)
}
