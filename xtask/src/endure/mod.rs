//! `cargo xtask endure`: a folder of very many images, a run of very many steps, and whether memory grows over them.

mod memory;

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::experiment::folders::{make, put, stems, write};
use crate::experiment::program::Which;
use crate::real::scratch;
use crate::steps::{Outcome, timed};
use memory::{Course, watched};

/// Segment and adapt to a folder of very many images for very many steps, with the demonstration's small model, and
/// see whether memory grows
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Images of the folder
    #[arg(long, default_value_t = 10_000)]
    images: usize,
    /// Steps of the run
    #[arg(long, default_value_t = 25_000)]
    steps: usize,
    #[command(flatten)]
    which: Which,
}

/// What memory may grow by between the second tenth of a part and its last tenth, beyond what a record of its length needs.
const GROWTH_MIB: f64 = 16.;

/// Runs the task.
///
/// # Errors
/// If a command fails, results are missing, or memory grows.
pub fn run(args: &Args) -> Outcome {
    let program = args.which.program()?;
    let here = scratch("endure")?;
    let demo = here.join("demo");
    timed("demo", || {
        program.run([OsStr::new("demo"), "--out".as_ref(), demo.as_ref()])
    })?;
    let (images, model) = (here.join("images"), demo.join("model.safetensors"));
    fill(&demo.join("images"), &images, args.images)?;

    let masks = here.join("masks");
    let mut segment = program.command(["segment", "--model"]);
    segment.arg(&model).arg("--out").arg(&masks).arg(&images);
    let segmented = part("segment", segment)?;
    let names = stems(&masks)?;
    let written = names.iter().filter(|n| n.ends_with("_cp_masks")).count();
    if written != args.images {
        return Err(format!(
            "expected {} label images, found {written}",
            args.images
        ));
    }

    let (settings, run) = (here.join("settings.toml"), here.join("run"));
    write(&settings, &small_steps(args.steps))?;
    let mut adapt = program.command(["adapt", "--mode", "frozen", "--no-stop", "--model"]);
    adapt.arg(&model).arg("--config").arg(&settings);
    adapt.arg("--out").arg(&run).arg(&images);
    let adapted = part("adapt", adapt)?;
    let mut report = program.command(["report"]);
    report.arg(&run);
    let reported = part("report", report)?;

    println!("| what | seconds | peak, MiB | second tenth | last tenth |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let many = format!("segment, {} images", args.images);
    row(&many, &segmented);
    row(&format!("adapt, {} steps", args.steps), &adapted);
    row("report of it", &reported);
    let mut grown = Vec::new();
    for (name, course) in [("segment", &segmented), ("adapt", &adapted)] {
        let growth = course.last_tenth() - course.second_tenth();
        if growth > GROWTH_MIB {
            grown.push(format!(
                "{name}: {growth:.0} MiB more in the last tenth than in the second, {GROWTH_MIB} are allowed"
            ));
        }
    }
    match grown.as_slice() {
        [] => Ok(()),
        _ => Err(grown.join("; ")),
    }
}

/// Settings of a run whose steps cost next to nothing.
fn small_steps(steps: usize) -> String {
    let every = (steps / 20).max(1);
    format!(
        "snapshots = 4\n[adapt]\nsteps = {steps}\nbatch = 1\ncrop = 64\nviews = 1\nlearning_rate = 1e-6\n\
         [watch]\nevery = {every}\ncrops = 2\n"
    )
}

fn part(name: &str, command: Command) -> Outcome<Course> {
    println!("--- {name}");
    let began = Instant::now();
    let course = watched(command)?;
    println!("--- {name}: {:.1} s", began.elapsed().as_secs_f64());
    Ok(course)
}

fn row(name: &str, course: &Course) {
    println!(
        "| {name} | {:.0} | {:.0} | {:.0} | {:.0} |",
        course.seconds,
        course.peak(),
        course.second_tenth(),
        course.last_tenth()
    );
}

/// A folder of `count` images: the same few again and again, under other names.
fn fill(from: &Path, to: &Path, count: usize) -> Outcome {
    let few = stems(from)?;
    if few.is_empty() {
        return Err(format!("{}: expected images, found none", from.display()));
    }
    make(to)?;
    for (number, stem) in few.iter().cycle().take(count).enumerate() {
        let name = to.join(format!("image_{number:05}.tif"));
        put(&from.join(format!("{stem}.tif")), &name)?;
    }
    Ok(())
}
