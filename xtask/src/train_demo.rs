//! `cargo xtask train-demo`: the small model inside `selfadapt demo`, from nothing but a seed.

use std::path::Path;
use std::process::Command;

use crate::real::{Options, scratch};
use crate::steps::{Outcome, root, succeed, timed};

/// Where the weights lie that are compiled into the program.
const WEIGHTS: &str = "selfadapt-cli/src/demo/model.safetensors";

/// Other numbers of threads change the last bits of sums, so of the weights.
const THREADS: &str = "2";

/// Train the model of `selfadapt demo` on images that the program draws, and put it where it is compiled in
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// Images to draw and train on
    #[arg(long, default_value_t = 48)]
    images: usize,
    /// Epochs
    #[arg(long, default_value_t = 104)]
    epochs: usize,
    /// Leave the program's model as it is, and only write it below the target folder
    #[arg(long)]
    keep: bool,
}

/// Runs the task.
///
/// # Errors
/// If the binary does not build or one of its commands fails.
pub fn run(args: &Args) -> Outcome {
    let binary = args.options.binary()?;
    let folder = scratch("train-demo")?;
    let (drawn, run, model) = (
        folder.join("source"),
        folder.join("run"),
        folder.join("model.safetensors"),
    );
    let selfadapt = |command: &str, to: &Path, arguments: &[&str]| {
        let mut child = Command::new(&binary);
        child.args(["--threads", THREADS, command]).args(arguments);
        child.arg("--out").arg(to);
        child
    };
    let (images, epochs) = (args.images.to_string(), args.epochs.to_string());
    timed("draw", || {
        let draw = ["--draw", "source", "--seed", "1", "--images", &images];
        succeed(selfadapt("demo", &drawn, &draw))
    })?;
    timed("train", || {
        let mut train = selfadapt(
            "train",
            &run,
            &[
                "--from-scratch",
                "--model",
                "cellpose",
                "--set",
                "nbase=[2,16,32,64]",
                // Cells of 20 pixels are large enough for these images, and take half the time of 30.
                "--set",
                "diam_mean=20",
                "--channels",
                "1,2",
                "--crop",
                "96",
                "--seed",
                "1",
                "--crops-per-epoch",
                "24",
                "--epochs",
                &epochs,
            ],
        );
        train.arg(&drawn);
        succeed(train)
    })?;
    timed("convert", || {
        let mut convert = Command::new(&binary);
        convert.args(["models", "convert", "--half"]);
        succeed({
            convert.arg(&run).arg(&model);
            convert
        })
    })?;
    if !args.keep {
        let to = root().join(WEIGHTS);
        std::fs::copy(&model, &to).map_err(|reason| format!("{}: {reason}", to.display()))?;
    }
    Ok(())
}
