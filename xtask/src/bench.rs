//! `cargo xtask bench`: an adaptation step of ours against the PyTorch reference's, part by part, taken in turn on the
//! same machine; prints a Markdown table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::bench_side::Side;
use crate::real::{self, Options};
use crate::steps::{Outcome, root};

/// Time an adaptation step of Cellpose's network against the PyTorch reference
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A Python that has torch and Cellpose: python3 -m venv V; V/bin/pip install torch cellpose==3.1.1.3
    #[arg(long, value_name = "PATH")]
    python: PathBuf,
    /// Where the reference, selfadapt_torch.py, is [default: ../shared/reference]
    #[arg(long, value_name = "DIR")]
    reference: Option<PathBuf>,
    /// Threads of both
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// How often each part is run on each side; the median of the ratios counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Crops in a step
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Side of a crop in pixels
    #[arg(long, default_value_t = 224)]
    crop: usize,
    /// Views of the teacher
    #[arg(long, default_value_t = 8)]
    views: usize,
    /// Writes the numbers here as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// What PyTorch's allocator is told, as the reference recommends: freed blocks are kept.
const KEEPS_BLOCKS: [(&str, &str); 3] = [
    ("MALLOC_MMAP_MAX_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "2147483647"),
    ("MALLOC_TOP_PAD_", "268435456"),
];

/// A row of the table: its title, the part that is asked for, and which of its numbers.
const ROWS: [(&str, &str, &str, &str); 10] = [
    ("step", "whole step", "step", "wall"),
    ("step_cpu", "whole step, processor seconds", "step", "cpu"),
    ("teacher", "teacher pass", "teacher", "wall"),
    ("forward", "student forward", "student", "forward"),
    ("backward", "student backward", "student", "backward"),
    ("optimiser", "AdamW, L2-SP, EMA", "optimiser", "wall"),
    ("loss", "loss", "student", "loss"),
    ("masks", "masks", "masks", "wall"),
    ("views", "views: turn, undo, merge", "views", "wall"),
    (
        "augmentation",
        "strong augmentation",
        "augmentation",
        "wall",
    ),
];

/// A pair of numbers, theirs and ours.
#[derive(Clone, Copy)]
struct Pair {
    theirs: f64,
    ours: f64,
}

pub fn run(args: Args) -> Outcome {
    let checkpoint = args.options.assets()?.join("cellpose/cyto_scellseg.pt");
    let reference = args.reference.clone();
    let reference = reference.unwrap_or_else(|| root().join("../shared/reference"));
    let script = reference.join("selfadapt_torch.py");
    if !script.is_file() {
        return Err(format!(
            "{}: no reference; name its folder with --reference",
            script.display()
        ));
    }
    let binary = args.options.example("adaptation_step")?;
    let sizes = [args.batch, args.crop, args.views].map(|n| n.to_string());
    let ours = |threads: usize| {
        let mut command = Command::new(&binary);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        command.arg(&checkpoint).args(&sizes);
        Side::start("selfadapt", command)
    };
    let theirs = |keeps_blocks: bool| {
        let mut command = real::script(&args.python, "bench_step.py");
        command.env("OMP_NUM_THREADS", args.threads.to_string());
        command.envs(KEEPS_BLOCKS.into_iter().filter(|_| keeps_blocks));
        command.args([&script, &checkpoint]).args(&sizes);
        command.arg(args.threads.to_string());
        Side::start("PyTorch", command)
    };
    let (mut us, mut them) = (ours(args.threads)?, theirs(true)?);
    // Whole steps first, so that the peaks of memory are theirs alone.
    let mut found: BTreeMap<(&str, &str), Vec<Pair>> = BTreeMap::new();
    compare(&args, (&mut them, &mut us), "step", &mut found)?;
    let memory = Pair {
        theirs: them.number("memory", "memory")?,
        ours: us.number("memory", "memory")?,
    };
    for part in [
        "teacher",
        "student",
        "optimiser",
        "masks",
        "views",
        "augmentation",
    ] {
        compare(&args, (&mut them, &mut us), part, &mut found)?;
    }
    let torch = them.ask("versions")?["torch"].clone();
    drop(them);
    let default_memory = {
        let mut them = theirs(false)?;
        for _ in 0..2 {
            them.ask("step")?;
        }
        them.number("memory", "memory")?
    };
    let scaling = scaling(&args, &mut us, ours)?;

    println!(
        "CPnet, batch {}, {} x {}, {} views, {} threads, f32; PyTorch {} channels_last; medians of {} rounds in turn\n",
        args.batch,
        args.crop,
        args.crop,
        args.views,
        args.threads,
        torch.as_str().unwrap_or("?"),
        args.rounds
    );
    println!("| part | PyTorch, ms | selfadapt, ms | ratio |\n| --- | ---: | ---: | ---: |");
    let mut json = BTreeMap::new();
    for (key, title, part, field) in ROWS {
        let pairs = found.get(&(part, field)).map_or(&[][..], Vec::as_slice);
        let of = |pick: fn(&Pair) -> f64| median(pairs.iter().map(pick).collect());
        let (theirs, ours) = (of(|p| p.theirs), of(|p| p.ours));
        let ratio = of(|p| p.ours / p.theirs);
        println!(
            "| {title} | {:.1} | {:.1} | {ratio:.2} |",
            1e3 * theirs,
            1e3 * ours
        );
        json.insert(format!("{key}_ratio"), json!(ratio));
        json.insert(
            format!("{key}_seconds"),
            json!({"theirs": theirs, "ours": ours}),
        );
    }
    let ratio = memory.ours / memory.theirs;
    println!(
        "| peak memory, MiB | {:.0} | {:.0} | {ratio:.2} |",
        memory.theirs, memory.ours
    );
    println!(
        "| - against PyTorch's default allocator | {default_memory:.0} | {:.0} | {:.2} |",
        memory.ours,
        memory.ours / default_memory
    );
    println!(
        "\nOur step on 1 thread takes {scaling:.2} times as long as on {}.",
        args.threads
    );
    json.insert("memory_ratio".into(), json!(ratio));
    json.insert(
        "memory_mib".into(),
        json!({"theirs": memory.theirs, "theirs_default": default_memory, "ours": memory.ours}),
    );
    json.insert("thread_scaling".into(), json!(scaling));
    json.insert(
        "settings".into(),
        json!({"batch": args.batch, "crop": args.crop, "views": args.views, "threads": args.threads,
               "rounds": args.rounds, "torch": torch}),
    );
    write(&args, &json!(json))
}

/// Runs a part on both sides in turn and files each of its numbers.
fn compare<'a>(
    args: &Args,
    (them, us): (&mut Side, &mut Side),
    part: &'a str,
    found: &mut BTreeMap<(&'a str, &'a str), Vec<Pair>>,
) -> Outcome {
    // The first time makes buffers and kernels.
    them.ask(part)?;
    us.ask(part)?;
    for _ in 0..args.rounds {
        let (theirs, ours) = (them.ask(part)?, us.ask(part)?);
        for (_, _, _, field) in ROWS.iter().filter(|row| row.2 == part) {
            let number = |of: &Value| of.get(field).and_then(Value::as_f64);
            if let (Some(theirs), Some(ours)) = (number(&theirs), number(&ours)) {
                let pairs = found.entry((part, field)).or_default();
                pairs.push(Pair { theirs, ours });
            }
        }
    }
    Ok(())
}

/// How many times longer a step of ours takes on one thread.
fn scaling(args: &Args, many: &mut Side, ours: impl Fn(usize) -> Outcome<Side>) -> Outcome<f64> {
    let mut one = ours(1)?;
    one.ask("step")?;
    let mut ratios = Vec::new();
    for _ in 0..args.rounds {
        let alone = one.number("step", "wall")?;
        ratios.push(alone / many.number("step", "wall")?);
    }
    Ok(median(ratios))
}

fn write(args: &Args, found: &Value) -> Outcome {
    let Some(path) = &args.json else {
        return Ok(());
    };
    let text = serde_json::to_string_pretty(found).map_err(|reason| reason.to_string())?;
    std::fs::write(path, text + "\n").map_err(|reason| format!("{}: {reason}", path.display()))
}

/// The middle value; NaN if there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
