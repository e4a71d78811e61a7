//! `cargo xtask bench-stardist`: wall time of `selfadapt segment` with a StarDist model against the real package's, on the
//! same machine in the same run, taken in turn; prints a Markdown table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::real::{self, Options};
use crate::steps::{Outcome, capture};

/// Time `selfadapt segment` against StarDist
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Python that has StarDist 0.9.1 and TensorFlow
    #[arg(long, value_name = "PATH")]
    python: PathBuf,
    /// Threads for both
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often each is run; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    options: Options,
}

/// The rows of a table: what is timed, and where each program's findings have it.
const ROWS: [(&str, &str, &str); 3] = [
    ("whole, without Python's imports", "/total", "/total"),
    ("prediction and suppression, warm", "/warm", "/work"),
    ("network, warm", "/network", "/seconds/network"),
];

pub fn run(args: Args) -> Outcome {
    let assets = args.options.assets()?;
    let binary = args.options.binary()?;
    let model = assets.join("stardist");
    let data = |name: &str| assets.join("data").join(name);
    let mice: Vec<PathBuf> = (0..33)
        .map(|i| data(&format!("mouse_{i:02}.tif")))
        .collect();
    println!(
        "\n{} threads, median of {} runs each, in turn; seconds\n",
        args.threads, args.rounds
    );
    println!("| images | | StarDist | selfadapt | ratio |");
    println!("| --- | --- | ---: | ---: | ---: |");
    for (name, images) in [
        (
            "stardist_img2d, 512 x 512",
            vec![data("stardist_img2d.tif")],
        ),
        ("33 mouse, 256 x 256", mice),
    ] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            theirs.push(stardist(&args, &model, &images)?);
            ours.push(selfadapt(&args, &binary, &model, &images)?);
        }
        for (what, of_theirs, of_ours) in ROWS {
            let (theirs, ours) = (median(&theirs, of_theirs)?, median(&ours, of_ours)?);
            println!(
                "| {name} | {what} | {theirs:.2} | {ours:.2} | {:.2} |",
                theirs / ours
            );
        }
        let (theirs, ours) = (median(&theirs, "/cells")?, median(&ours, "/counts/cells")?);
        println!("| {name} | objects | {theirs} | {ours} | |");
    }
    Ok(())
}

fn stardist(args: &Args, model: &Path, images: &[PathBuf]) -> Outcome<Value> {
    let out = real::scratch("bench-stardist-real")?;
    let mut command = real::script(&args.python, "bench_stardist.py");
    command.arg(model).arg(args.threads.to_string()).arg(out);
    command.args(images);
    real::findings(command)
}

fn selfadapt(args: &Args, binary: &Path, model: &Path, images: &[PathBuf]) -> Outcome<Value> {
    let out = real::scratch("bench-stardist-ours")?;
    let mut command = Command::new(binary);
    command.args(["segment", "--quiet", "--json", "--threads"]);
    command.arg(args.threads.to_string()).arg("--model");
    command.args([model, Path::new("--out"), &out]).args(images);
    let start = Instant::now();
    let printed = capture(command)?;
    // From the outside, so that starting the program counts.
    let total = start.elapsed().as_secs_f64();
    let mut found: Value = serde_json::from_str(&printed).map_err(|reason| reason.to_string())?;
    let work = number(&found, "/seconds/network")? + number(&found, "/seconds/decode")?;
    found["total"] = total.into();
    found["work"] = work.into();
    Ok(found)
}

fn number(found: &Value, at: &str) -> Outcome<f64> {
    let value = found.pointer(at).and_then(Value::as_f64);
    value.ok_or_else(|| format!("no number at {at} in {found}"))
}

fn median(runs: &[Value], at: &str) -> Outcome<f64> {
    let mut all: Vec<f64> = runs
        .iter()
        .map(|run| number(run, at))
        .collect::<Outcome<_>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all.get(all.len() / 2).copied().unwrap_or_default())
}
