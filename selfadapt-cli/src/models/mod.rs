//! `selfadapt models`: look at model files and convert them.

mod convert;
pub mod find;
mod info;

use crate::failure::{Failure, Outcome};

/// Look at model files and convert them
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Info(info::Args),
    Convert(convert::Args),
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    match args.command {
        Command::Info(args) => info::run(args),
        Command::Convert(args) => convert::run(args),
    }
}
