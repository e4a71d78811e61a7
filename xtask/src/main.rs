//! Automation around the workspace: `cargo xtask ci` is the one check that everything must pass.
#![forbid(unsafe_code)]

mod bench;
mod bench_segment;
mod bench_side;
mod bench_stardist;
mod bench_turns;
mod calibrate;
mod ci;
mod endure;
mod experiment;
mod fuzz;
mod interop;
mod real;
mod sanitize;
mod steps;
mod tables;
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
    /// The paper's Table 1: scores of base and fine-tuned models, before and after adaptation
    Table1(tables::PaperArgs),
    /// The paper's Table 2: what each part of the method is worth
    Table2(tables::PaperArgs),
    /// The paper's Figure 2: criteria and the true score along the runs
    Figure2(tables::PaperArgs),
    /// The paper's Figure 3: the first scored images before and after adaptation
    Figure3(tables::PaperArgs),
    /// Our tables: three real shifts, and the ablations on one of them
    Tables(tables::OursArgs),
    /// The house rules that no lint knows.
    Tidy,
    Interop(interop::Args),
    Bench(bench::Args),
    BenchSegment(bench_segment::Args),
    BenchStardist(bench_stardist::Args),
    Torture(torture::Args),
    Endure(endure::Args),
    Fuzz(fuzz::Args),
    Sanitize(sanitize::Args),
    TrainDemo(train_demo::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().task {
        Task::Ci => ci::run(),
        Task::Calibrate(args) => calibrate::run(&args),
        Task::Table1(args) => tables::run_paper(tables::Part::Table1, &args),
        Task::Table2(args) => tables::run_paper(tables::Part::Table2, &args),
        Task::Figure2(args) => tables::run_paper(tables::Part::Figure2, &args),
        Task::Figure3(args) => tables::run_paper(tables::Part::Figure3, &args),
        Task::Tables(args) => tables::run_ours(&args),
        Task::Tidy => tidy::run(),
        Task::Interop(args) => interop::run(args),
        Task::Bench(args) => bench::run(args),
        Task::BenchSegment(args) => bench_segment::run(&args),
        Task::BenchStardist(args) => bench_stardist::run(&args),
        Task::Torture(args) => torture::run(&args),
        Task::Endure(args) => endure::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Sanitize(args) => sanitize::run(&args),
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn no_task_has_arguments_that_clap_refuses() {
        // It looks at a task's arguments only when that task is asked for.
        Args::command().debug_assert();
    }
}
