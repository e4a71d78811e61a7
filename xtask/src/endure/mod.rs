//! `cargo xtask endure`: a folder of very many images, a run of very many steps, and whether memory grows over them.

mod memory;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::real::{release, scratch};
use crate::steps::{Outcome, succeed, timed};
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
    /// The binary [default: SELFADAPT_BINARY, else built in release]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// What memory may grow by between the second tenth of a part and its last tenth, beyond what a record of its length needs.
const GROWTH_MIB: f64 = 16.;

/// Runs the task.
///
/// # Errors
/// If a command fails, results are missing, or memory grows.
pub fn run(args: &Args) -> Outcome {
    let named = args.binary.clone();
    let named = named.or_else(|| std::env::var_os("SELFADAPT_BINARY").map(PathBuf::from));
    let binary = named.map_or_else(release, Ok)?;
    let here = scratch("endure")?;
    let demo = here.join("demo");
    timed("demo", || {
        let mut demo_command = quiet(&binary);
        demo_command.arg("demo").arg("--out").arg(&demo);
        succeed(demo_command)
    })?;
    let (images, model) = (here.join("images"), demo.join("model.safetensors"));
    fill(&demo.join("images"), &images, args.images)?;

    let masks = here.join("masks");
    let mut segment = quiet(&binary);
    segment.arg("segment").arg("--model").arg(&model);
    segment.arg("--out").arg(&masks).arg(&images);
    let segmented = part("segment", segment)?;
    let written = files(&masks, "_cp_masks.tif")?.len();
    if written != args.images {
        return Err(format!(
            "expected {} label images, found {written}",
            args.images
        ));
    }

    let (settings, run) = (here.join("settings.toml"), here.join("run"));
    std::fs::write(&settings, small_steps(args.steps)).map_err(|e| e.to_string())?;
    let mut adapt = quiet(&binary);
    adapt.arg("adapt").arg("--model").arg(&model);
    adapt.arg("--config").arg(&settings).arg("--out").arg(&run);
    adapt.args(["--mode", "frozen", "--no-stop"]).arg(&images);
    let adapted = part("adapt", adapt)?;
    let mut report = quiet(&binary);
    report.arg("report").arg(&run);
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

fn quiet(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.arg("--quiet");
    command
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

/// Files of a folder whose names end so, sorted.
fn files(folder: &Path, end: &str) -> Outcome<Vec<PathBuf>> {
    let listed = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files = Vec::new();
    for entry in listed {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.to_string_lossy().ends_with(end) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A folder of `count` images: the same few again and again, under other names, as links where the disk has them.
fn fill(from: &Path, to: &Path, count: usize) -> Outcome {
    let few = files(from, ".tif")?;
    if few.is_empty() {
        return Err(format!("{}: expected images, found none", from.display()));
    }
    std::fs::create_dir_all(to).map_err(|e| format!("{}: {e}", to.display()))?;
    for (number, image) in few.iter().cycle().take(count).enumerate() {
        let name = to.join(format!("image_{number:05}.tif"));
        std::fs::hard_link(image, &name)
            .or_else(|_| std::fs::copy(image, &name).map(|_| ()))
            .map_err(|e| format!("{}: {e}", name.display()))?;
    }
    Ok(())
}
