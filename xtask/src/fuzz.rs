//! `cargo xtask fuzz`: every reader in turn under libFuzzer, guided by coverage; counts executions and lists findings.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::steps::{Outcome, cargo, root, succeed};

/// Fuzz every reader in turn with libFuzzer, which takes a C++ compiler; stable Rust will do
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Minutes for all readers together
    #[arg(long, default_value_t = 10.)]
    minutes: f64,
    /// Only these readers
    #[arg(long, value_delimiter = ',')]
    readers: Vec<String>,
}

/// Coverage instrumentation as cargo-fuzz sets it, without a sanitizer: the readers are safe Rust.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// Seconds for one input, beyond which it counts as a hang.
const SECONDS: u32 = 10;

pub fn run(args: &Args) -> Outcome {
    let fuzz = root().join("fuzz");
    // A target of its own keeps the flags from build scripts.
    let target = host()?;
    let mut build = cargo(&["build", "--release", "--locked", "--target", &target]);
    build.current_dir(&fuzz).env("RUSTFLAGS", FLAGS);
    succeed(build)?;
    let programs = fuzz.join("target").join(&target).join("release");
    let corpus = fuzz.join("corpus");
    let mut seeds = Command::new(programs.join("fuzz"));
    seeds.env("SELFADAPT_FUZZ_SEEDS", &corpus);
    let names = crate::steps::capture(seeds)?;
    let names: Vec<&str> = names
        .lines()
        .filter(|name| args.readers.is_empty() || args.readers.iter().any(|wanted| wanted == name))
        .collect();
    if names.is_empty() {
        return Err("no reader has such a name".into());
    }
    let seconds = (args.minutes * 60. / names.len() as f64).max(1.) as u64;
    let (mut all, mut findings) = (0, 0);
    for name in names {
        let (executions, failed) = one(&programs.join("fuzz"), &corpus, name, seconds)?;
        println!(
            "{name}: {executions} executions{}",
            if failed {
                ", FAILED: see fuzz/corpus/failed"
            } else {
                ""
            }
        );
        all += executions;
        findings += u32::from(failed);
    }
    println!("{all} executions, {findings} readers failed");
    match findings {
        0 => Ok(()),
        _ => Err("inputs that break a reader lie in fuzz/corpus/failed".into()),
    }
}

/// Fuzzes one reader; how often it ran, and whether an input broke it.
fn one(program: &Path, corpus: &Path, name: &str, seconds: u64) -> Outcome<(u64, bool)> {
    let failed = corpus.join("failed");
    std::fs::create_dir_all(&failed).map_err(|reason| reason.to_string())?;
    let mut command = Command::new(program);
    command
        .env("SELFADAPT_FUZZ_READER", name)
        .args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={SECONDS}"),
            "-rss_limit_mb=2048".into(),
            "-max_len=8192".into(),
            "-print_final_stats=1".into(),
            format!("-artifact_prefix={}/{name}--", failed.display()),
        ])
        .arg(corpus.join(name))
        .stdout(Stdio::null());
    // Files in memory are ten times faster.
    if Path::new("/dev/shm").is_dir() {
        command.env("TMPDIR", "/dev/shm");
    }
    let output = command
        .output()
        .map_err(|reason| format!("{}: {reason}", program.display()))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let executions = told
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0);
    if !output.status.success() {
        let last: Vec<&str> = told.lines().rev().take(12).collect();
        for line in last.iter().rev() {
            println!("    {line}");
        }
    }
    Ok((executions, !output.status.success()))
}

/// The machine that the compiler runs on.
fn host() -> Outcome<String> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.arg("-vV");
    let told = crate::steps::capture(rustc)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".into())
}
