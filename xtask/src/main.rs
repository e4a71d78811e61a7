//! Automation around the workspace: `cargo xtask ci` is the one check that everything must pass.
#![forbid(unsafe_code)]

mod bench;
mod bench_segment;
mod bench_side;
mod bench_stardist;
mod bench_turns;
mod calibrate;
mod ci;
mod fuzz;
mod interop;
mod real;
mod steps;
mod tidy;
mod torture;
mod train_demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Automation around the selfadapt workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format, house rules, lints, tests, doc tests and documentation; stops at the first failure.
    Ci,
    /// Sets x settings x seeds of adaptation, scored against labels.
    Calibrate(calibrate::Args),
    /// The house rules that no lint knows.
    Tidy,
    Interop(interop::Args),
    Bench(bench::Args),
    BenchSegment(bench_segment::Args),
    BenchStardist(bench_stardist::Args),
    Torture(torture::Args),
    Fuzz(fuzz::Args),
    TrainDemo(train_demo::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Ci => ci::run(),
        Task::Calibrate(args) => calibrate::run(&args),
        Task::Tidy => tidy::run(),
        Task::Interop(args) => interop::run(args),
        Task::Bench(args) => bench::run(args),
        Task::BenchSegment(args) => bench_segment::run(&args),
        Task::BenchStardist(args) => bench_stardist::run(&args),
        Task::Torture(args) => torture::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::TrainDemo(args) => train_demo::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}
