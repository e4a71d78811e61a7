//! The command line: what all subcommands share, and the list of subcommands.

use std::num::NonZeroUsize;

use clap::{ArgAction, Parser, Subcommand};

use crate::failure::{Failure, Outcome};
use crate::{
    adapt, completions, dataset, degrade, demo, doctor, evaluate, models, pick, report, segment,
    train,
};

/// Segments cells and nuclei in microscopy images with pretrained models, and adapts these to unlabelled images.
///
/// Exit codes: 0 all done, 1 some inputs failed, 2 bad usage or input, 3 a place that cannot be written, 70 internal error.
#[derive(Debug, Parser)]
#[command(
    name = "selfadapt",
    version,
    after_help = "\
Examples:
  selfadapt models fetch cyto3
  selfadapt segment --model cyto3 --out masks images/
  selfadapt adapt --model cyto3 --out run images/
  selfadapt segment --model run --out masks images/

Every subcommand has its own examples: selfadapt segment --help.

Settings, the first that says something wins: flags; adapt's --config FILE; adapt's --preset; the model's \
own. Environment variables name places and never settings of models: SELFADAPT_MODELS_PATH and \
CELLPOSE_LOCAL_MODELS_PATH (folders of models), SELFADAPT_MODELS_URL and SELFADAPT_OFFLINE (models fetch)."
)]
pub struct Cli {
    #[command(flatten)]
    pub console: Console,
    #[command(subcommand)]
    command: Command,
}

/// What every subcommand takes.
#[derive(Debug, clap::Args)]
pub struct Console {
    /// Say more (-v: what is done, -vv: how)
    #[arg(short, long, global = true, display_order = 900, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors, and show no progress
    #[arg(
        short,
        long,
        global = true,
        display_order = 901,
        conflicts_with = "verbose"
    )]
    pub quiet: bool,
    /// Threads to compute with [default: as many as there are processor cores]
    #[arg(long, global = true, display_order = 902, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
}

/// A subcommand is a file (or folder) with its arguments and its `run`, a line here and a line below.
#[derive(Debug, Subcommand)]
enum Command {
    Segment(Box<segment::Args>),
    Adapt(Box<adapt::Args>),
    Train(Box<train::Args>),
    Dataset(dataset::Args),
    Degrade(degrade::Args),
    Demo(demo::Args),
    Evaluate(evaluate::Args),
    Models(models::Args),
    Pick(pick::Args),
    Report(report::Args),
    Doctor(doctor::Args),
    Completions(completions::Completions),
    Man(completions::Man),
}

impl Cli {
    /// Runs the chosen subcommand.
    pub fn run(self) -> Result<Outcome, Failure> {
        match self.command {
            Command::Segment(args) => segment::run(*args),
            Command::Adapt(args) => adapt::run(*args),
            Command::Train(args) => train::run(*args),
            Command::Dataset(args) => dataset::run(args),
            Command::Degrade(args) => degrade::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Evaluate(args) => evaluate::run(args),
            Command::Models(args) => models::run(args),
            Command::Pick(args) => pick::run(args),
            Command::Report(args) => report::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Completions(args) => completions::complete(args),
            Command::Man(args) => completions::man(args),
        }
    }
}
