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
    /// Neither side uses instructions beyond AVX2 with FMA, as on a laptop's processor
    #[arg(long)]
    avx2: bool,
    /// The machine has other work: PyTorch's threads sleep where they wait (by default they spin, which counts as
    /// processor time and starves themselves), and what asks for more runs of whole steps is left out (1 thread
    /// against many, PyTorch's memory by default); read the ratios of processor time
    #[arg(long)]
    busy: bool,
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

/// What keeps PyTorch's own loops, oneDNN and MKL at AVX2.
const AT_MOST_AVX2: [(&str, &str); 3] = [
    ("ATEN_CPU_CAPABILITY", "avx2"),
    ("ONEDNN_MAX_CPU_ISA", "AVX2"),
    ("MKL_ENABLE_INSTRUCTIONS", "AVX2"),
];

/// A row of the table: its key, its title, the part that is asked for, and where in the answer it is.
const ROWS: [(&str, &str, &str, &str); 9] = [
    ("step", "whole step", "step", ""),
    ("teacher", "teacher pass", "teacher", ""),
    ("forward", "student forward", "student", "/forward"),
    ("backward", "student backward", "student", "/backward"),
    ("optimiser", "AdamW, L2-SP, EMA", "optimiser", ""),
    ("loss", "loss", "student", "/loss"),
    ("masks", "masks", "masks", ""),
    ("views", "views: turn, undo, merge", "views", ""),
    ("augmentation", "strong augmentation", "augmentation", ""),
];

/// One run of a part.
#[derive(Clone, Copy)]
struct Seconds {
    wall: f64,
    processor: f64,
}

/// A run on each side, one after the other.
#[derive(Clone, Copy)]
struct Pair {
    theirs: Seconds,
    ours: Seconds,
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
        command.args(args.avx2.then_some("avx2"));
        Side::start("selfadapt", command)
    };
    let theirs = |keeps_blocks: bool| {
        let mut command = real::script(&args.python, "bench_step.py");
        command.env("OMP_NUM_THREADS", args.threads.to_string());
        command.envs(args.busy.then_some(("OMP_WAIT_POLICY", "passive")));
        command.envs(KEEPS_BLOCKS.into_iter().filter(|_| keeps_blocks));
        command.envs(AT_MOST_AVX2.into_iter().filter(|_| args.avx2));
        command.args([&script, &checkpoint]).args(&sizes);
        command.arg(args.threads.to_string());
        Side::start("PyTorch", command)
    };
    let (mut us, mut them) = (ours(args.threads)?, theirs(true)?);
    // Whole steps first, so that the peaks of memory are theirs alone.
    let mut found: BTreeMap<&str, Vec<Pair>> = BTreeMap::new();
    compare(&args, (&mut them, &mut us), "step", &mut found)?;
    let memory = (
        them.number("memory", "memory")?,
        us.number("memory", "memory")?,
    );
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
    let peaks = them.ask("peaks")?;

    println!(
        "CPnet, batch {}, {} x {}, {} views, {} threads, f32{}; PyTorch {} channels_last; medians of {} rounds in turn\n",
        args.batch,
        args.crop,
        args.crop,
        args.views,
        args.threads,
        if args.avx2 { ", AVX2" } else { "" },
        torch.as_str().unwrap_or("?"),
        args.rounds
    );
    println!("| part | PyTorch, ms | selfadapt, ms | ratio | ratio of processor time |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut json = BTreeMap::new();
    for (key, title, _, _) in ROWS {
        let pairs = found.get(key).map_or(&[][..], Vec::as_slice);
        let of = |pick: fn(&Pair) -> f64| median(pairs.iter().map(pick).collect());
        let (theirs, ours) = (of(|p| p.theirs.wall), of(|p| p.ours.wall));
        let ratio = of(|p| p.ours.wall / p.theirs.wall);
        let processor = of(|p| p.ours.processor / p.theirs.processor);
        println!(
            "| {title} | {:.1} | {:.1} | {ratio:.2} | {processor:.2} |",
            1e3 * theirs,
            1e3 * ours
        );
        let of_processor = [of(|p| p.theirs.processor), of(|p| p.ours.processor)];
        json.insert(format!("{key}_ratio"), json!(ratio));
        json.insert(format!("{key}_processor_ratio"), json!(processor));
        json.insert(
            format!("{key}_seconds"),
            json!({"theirs": theirs, "ours": ours, "theirs_processor": of_processor[0], "ours_processor": of_processor[1]}),
        );
    }
    let ratio = memory.1 / memory.0;
    println!(
        "| peak memory, MiB | {:.0} | {:.0} | {ratio:.2} | |",
        memory.0, memory.1
    );
    println!(
        "\nPeaks, by PyTorch on {} threads: {:.0} GFLOP/s in a matrix product, {:.1} GB/s in a copy (read and write).",
        args.threads,
        peaks["gflops"].as_f64().unwrap_or(f64::NAN),
        peaks["gigabytes"].as_f64().unwrap_or(f64::NAN)
    );
    json.insert("memory_ratio".into(), json!(ratio));
    let mut mib = BTreeMap::from([("theirs", memory.0), ("ours", memory.1)]);
    if !args.busy {
        drop(them);
        let scaling = scaling(&args, &mut us, ours)?;
        println!(
            "Our step on 1 thread takes {scaling:.2} times as long as on {}.",
            args.threads
        );
        json.insert("thread_scaling".into(), json!(scaling));
        let mut them = theirs(false)?;
        for _ in 0..2 {
            them.ask("step")?;
        }
        let by_default = them.number("memory", "memory")?;
        println!(
            "PyTorch's peak with its allocator as it is by default: {by_default:.0} MiB, ours {:.2} of it.",
            memory.1 / by_default
        );
        mib.insert("theirs_by_default", by_default);
    }
    json.insert("memory_mib".into(), json!(mib));
    json.insert("peaks".into(), peaks);
    json.insert(
        "settings".into(),
        json!({"batch": args.batch, "crop": args.crop, "views": args.views, "threads": args.threads,
               "rounds": args.rounds, "busy": args.busy, "avx2": args.avx2, "torch": torch}),
    );
    write(&args, &json!(json))
}

/// Runs a part on both sides in turn and files what each row of it takes.
fn compare(
    args: &Args,
    (them, us): (&mut Side, &mut Side),
    part: &str,
    found: &mut BTreeMap<&str, Vec<Pair>>,
) -> Outcome {
    // The first time makes buffers and kernels.
    them.ask(part)?;
    us.ask(part)?;
    for _ in 0..args.rounds {
        let (theirs, ours) = (them.ask(part)?, us.ask(part)?);
        for (key, _, _, at) in ROWS.iter().filter(|row| row.2 == part) {
            let pair = Pair {
                theirs: seconds(&theirs, at)?,
                ours: seconds(&ours, at)?,
            };
            eprintln!(
                "{key}: PyTorch {:.3} s ({:.2} of processors), selfadapt {:.3} s ({:.2})",
                pair.theirs.wall, pair.theirs.processor, pair.ours.wall, pair.ours.processor
            );
            found.entry(*key).or_default().push(pair);
        }
    }
    Ok(())
}

fn seconds(answer: &Value, at: &str) -> Outcome<Seconds> {
    let number = |name: &str| {
        let found = answer.pointer(&format!("{at}/{name}"));
        found
            .and_then(Value::as_f64)
            .ok_or_else(|| format!("no number at {at}/{name} in {answer}"))
    };
    Ok(Seconds {
        wall: number("wall")?,
        processor: number("cpu")?,
    })
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
