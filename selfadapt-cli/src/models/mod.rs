//! `selfadapt models`: the models on this machine, those that can be fetched, and what is in them.

mod add;
pub mod catalogue;
mod convert;
mod download;
mod fetch;
pub mod find;
mod info;
mod list;
pub mod origin;
pub mod places;
mod remove;
mod transport;
mod verify;

use crate::failure::{Failure, Outcome};

/// List, fetch, look at, add, convert and remove models
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    List(list::Args),
    Fetch(fetch::Args),
    Info(info::Args),
    Add(add::Args),
    Convert(convert::Args),
    Remove(remove::Args),
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    match args.command {
        Command::List(args) => list::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Info(args) => info::run(args),
        Command::Add(args) => add::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Remove(args) => remove::run(args),
    }
}
