//! `selfadapt segment` beside a real package on the same machine, taken in turn: arguments, runs, a Markdown table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::real::{self, Options};
use crate::steps::{Outcome, capture};

/// What a comparison takes.
#[derive(Debug, clap::Args)]
#[group(id = "turns")]
pub struct Args {
    /// A Python that has the package, as named in tests/interop
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

/// A package and what is compared with it.
pub struct Comparison {
    /// Its name.
    pub package: &'static str,
    /// The script of `tests/interop` that runs it: `MODEL [DIAMETER] THREADS OUT IMAGES`, and prints findings as JSON.
    pub script: &'static str,
    /// The model below the folder of reference data.
    pub model: &'static str,
    /// What is timed, and where the findings of the package and ours have it.
    pub rows: &'static [(&'static str, &'static str, &'static str)],
    /// What its objects are called.
    pub objects: &'static str,
    /// Diameters for the one image, and for the many; none where the model has its own scale.
    pub diameters: (&'static [Option<&'static str>], Option<&'static str>),
}

/// Images that are segmented in one run.
struct Subject {
    name: String,
    diameter: Option<&'static str>,
    images: Vec<PathBuf>,
}

/// Runs both in turn and prints the table.
///
/// # Errors
/// If the reference data are not there, our binary does not build, or a run fails.
pub fn compare(args: &Args, with: &Comparison) -> Outcome {
    let assets = args.options.assets()?;
    let binary = args.options.binary()?;
    let model = assets.join(with.model);
    println!(
        "\n{} threads, median of {} runs each, in turn; seconds\n",
        args.threads, args.rounds
    );
    println!("| images | | {} | selfadapt | ratio |", with.package);
    println!("| --- | --- | ---: | ---: | ---: |");
    for subject in subjects(&assets.join("data"), with) {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            theirs.push(real_run(args, with.script, &model, &subject)?);
            ours.push(our_run(args, &binary, &model, &subject)?);
        }
        let name = &subject.name;
        for (what, of_theirs, of_ours) in with.rows {
            let (theirs, ours) = (median(&theirs, of_theirs)?, median(&ours, of_ours)?);
            println!(
                "| {name} | {what} | {theirs:.2} | {ours:.2} | {:.2} |",
                theirs / ours
            );
        }
        let (theirs, ours) = (median(&theirs, "/cells")?, median(&ours, "/counts/cells")?);
        println!("| {name} | {} | {theirs} | {ours} | |", with.objects);
    }
    Ok(())
}

fn subjects(data: &Path, with: &Comparison) -> Vec<Subject> {
    let subject = |name: &str, diameter: Option<&'static str>, images: Vec<PathBuf>| Subject {
        name: match diameter {
            Some(pixels) => format!("{name}, diameter {pixels}"),
            None => name.to_owned(),
        },
        diameter,
        images,
    };
    let (one, many) = with.diameters;
    let image = vec![data.join("stardist_img2d.tif")];
    let mice = (0..33).map(|i| data.join(format!("mouse_{i:02}.tif")));
    let ones = one
        .iter()
        .map(|&diameter| subject("stardist_img2d, 512 x 512", diameter, image.clone()));
    ones.chain([subject("33 mouse, 256 x 256", many, mice.collect())])
        .collect()
}

fn real_run(args: &Args, script: &str, model: &Path, subject: &Subject) -> Outcome<Value> {
    let mut command = real::script(&args.python, script);
    command.arg(model).args(subject.diameter);
    command.arg(args.threads.to_string());
    command.arg(real::scratch("bench-real")?);
    command.args(&subject.images);
    real::findings(command)
}

fn our_run(args: &Args, binary: &Path, model: &Path, subject: &Subject) -> Outcome<Value> {
    let out = real::scratch("bench-ours")?;
    let mut command = Command::new(binary);
    command.args(["segment", "--quiet", "--json", "--threads"]);
    command.arg(args.threads.to_string());
    if let Some(diameter) = subject.diameter {
        command.args(["--diameter", diameter]);
    }
    command
        .arg("--model")
        .args([model, Path::new("--out"), &out]);
    command.args(&subject.images);
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
