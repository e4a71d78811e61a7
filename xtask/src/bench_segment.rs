//! `cargo xtask bench-segment`: wall time of `selfadapt segment` against Cellpose's, on the same machine in
//! the same run, taken in turn; prints a Markdown table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::real::{self, Options};
use crate::steps::{Outcome, capture};

/// Time `selfadapt segment` against Cellpose
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Python that has Cellpose 3.1.1
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

/// Seconds of one run.
#[derive(Clone, Copy, Default)]
struct Seconds {
    total: f64,
    dynamics: f64,
    cells: u64,
}

pub fn run(args: Args) -> Outcome {
    let assets = args.options.assets()?;
    let binary = args.options.binary()?;
    let model = assets.join("cellpose/cyto_scellseg.pt");
    let data = |name: &str| assets.join("data").join(name);
    let mice: Vec<PathBuf> = (0..33)
        .map(|i| data(&format!("mouse_{i:02}.tif")))
        .collect();
    println!(
        "\n{} threads, median of {} runs each, in turn; seconds from the loaded program to the last file written\n",
        args.threads, args.rounds
    );
    println!("| images | | Cellpose | selfadapt | ratio |");
    println!("| --- | --- | ---: | ---: | ---: |");
    for (name, diameter, images) in [
        (
            "stardist_img2d, 512 x 512",
            "30",
            vec![data("stardist_img2d.tif")],
        ),
        (
            "stardist_img2d, 512 x 512",
            "20",
            vec![data("stardist_img2d.tif")],
        ),
        ("33 mouse, 256 x 256", "26", mice),
    ] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            theirs.push(cellpose(&args, &model, diameter, &images)?);
            ours.push(selfadapt(&args, &binary, &model, diameter, &images)?);
        }
        let (theirs, ours) = (median(theirs), median(ours));
        for (what, theirs, ours) in [
            ("whole", theirs.total, ours.total),
            ("dynamics", theirs.dynamics, ours.dynamics),
        ] {
            println!(
                "| {name}, diameter {diameter} | {what} | {theirs:.2} | {ours:.2} | {:.2} |",
                theirs / ours
            );
        }
        println!(
            "| {name}, diameter {diameter} | cells | {} | {} | |",
            theirs.cells, ours.cells
        );
    }
    Ok(())
}

fn cellpose(args: &Args, model: &Path, diameter: &str, images: &[PathBuf]) -> Outcome<Seconds> {
    let out = real::scratch("bench-cellpose")?;
    let mut command = real::script(&args.python, "bench_segment.py");
    command
        .arg(model)
        .args([diameter, &args.threads.to_string()]);
    let found = real::findings({
        command.arg(out).args(images);
        command
    })?;
    read(&found, ["/total", "/dynamics", "/cells"])
}

fn selfadapt(
    args: &Args,
    binary: &Path,
    model: &Path,
    diameter: &str,
    images: &[PathBuf],
) -> Outcome<Seconds> {
    let out = real::scratch("bench-selfadapt")?;
    let mut command = Command::new(binary);
    command
        .args(["segment", "--quiet", "--json", "--diameter", diameter])
        .args(["--threads", &args.threads.to_string(), "--model"])
        .args([model, Path::new("--out"), &out])
        .args(images);
    let start = Instant::now();
    let printed = capture(command)?;
    let total = start.elapsed().as_secs_f64();
    let found = serde_json::from_str(&printed).map_err(|reason| reason.to_string())?;
    let seconds = read(
        &found,
        ["/seconds/total", "/seconds/decode", "/counts/cells"],
    )?;
    // From the outside, so that starting the program counts.
    Ok(Seconds { total, ..seconds })
}

fn read(found: &serde_json::Value, [total, dynamics, cells]: [&str; 3]) -> Outcome<Seconds> {
    let number = |at: &str| {
        let value = found.pointer(at).and_then(serde_json::Value::as_f64);
        value.ok_or_else(|| format!("no number at {at} in {found}"))
    };
    Ok(Seconds {
        total: number(total)?,
        dynamics: number(dynamics)?,
        cells: number(cells)? as u64,
    })
}

fn median(mut runs: Vec<Seconds>) -> Seconds {
    let middle = runs.len() / 2;
    runs.sort_by(|a, b| a.dynamics.total_cmp(&b.dynamics));
    let dynamics = runs.get(middle).copied().unwrap_or_default().dynamics;
    runs.sort_by(|a, b| a.total.total_cmp(&b.total));
    let run = runs.get(middle).copied().unwrap_or_default();
    Seconds { dynamics, ..run }
}
