//! `cargo xtask interop`: what we write, opened by the real packages; the findings go to `docs/interop.md`.

mod cellpose;
mod mesmer;
mod page;
mod stardist;

use clap::ValueEnum;

use crate::real::Options;
use crate::steps::Outcome;

/// A package, which has its own section of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Package {
    Cellpose,
    Stardist,
    Mesmer,
}

/// Open our files with the real packages and compare
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these packages; the other sections of the page stay as they are
    #[arg(value_enum)]
    packages: Vec<Package>,
    #[command(flatten)]
    cellpose: cellpose::Pythons,
    #[command(flatten)]
    stardist: stardist::Python,
    #[command(flatten)]
    mesmer: mesmer::Places,
    #[command(flatten)]
    options: Options,
}

pub fn run(args: Args) -> Outcome {
    let wanted = |package| args.packages.is_empty() || args.packages.contains(&package);
    if wanted(Package::Cellpose) {
        cellpose::run(&args.cellpose, &args.options)?;
    }
    if wanted(Package::Stardist) {
        stardist::run(&args.stardist, &args.options)?;
    }
    if args.packages.is_empty() && !args.mesmer.known() {
        eprintln!("mesmer: left out; name its network with --mesmer");
    } else if wanted(Package::Mesmer) {
        mesmer::run(&args.mesmer, &args.options)?;
    }
    Ok(())
}
