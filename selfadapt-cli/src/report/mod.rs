//! `selfadapt report`: a run as one page that a browser opens, without network.

mod criteria;
mod gather;
mod page;
mod picture;
mod tables;

use std::path::PathBuf;

use selfadapt_core::error::Result;

use crate::adapt::folder::RunFolder;
use crate::adapt::settings::RunConfig;
use crate::failure::{Failure, Outcome};

/// The file's name in a run folder.
pub const FILE: &str = "report.html";

/// Write a run's report.html again
///
/// Every adaptation writes its report when it ends. This makes it anew from the run folder: after
/// --resume of an old run, after a newer selfadapt, or where the file was lost. The page is one file
/// that needs no network: mail it, print it, open it on a phone.
///
/// Examples:
///   selfadapt report run
///   selfadapt report run --out for-my-colleague.html
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder of a finished run
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// The file to write [default: RUN/report.html]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// If the folder holds no finished run or the page cannot be written.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    // Only a run is opened: opening would make the folder.
    RunConfig::read(&args.run)?;
    let folder = RunFolder::open(&args.run)?;
    let out = args.out.unwrap_or_else(|| folder.file(FILE));
    let page = page::render(&gather::gather(&folder)?)?;
    selfadapt_core::io::atomic::write_bytes(&out, page.as_bytes())?;
    println!("{}", out.display());
    Ok(Outcome::Fine)
}

/// Writes the report of a finished run into its folder.
///
/// # Errors
/// If the folder holds no finished run or the page cannot be written.
pub fn write(folder: &RunFolder) -> Result<PathBuf> {
    let page = page::render(&gather::gather(folder)?)?;
    folder.write_text(FILE, &page)?;
    Ok(folder.file(FILE))
}
