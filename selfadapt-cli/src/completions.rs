//! `selfadapt completions` and `selfadapt man`: files that shells and manual readers know.

use std::path::PathBuf;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use selfadapt_core::error::Error;

use crate::args::Cli;
use crate::failure::{Failure, Outcome};

/// Print the completions of a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt completions bash > ~/.local/share/bash-completion/completions/selfadapt
  selfadapt completions zsh > ~/.zfunc/_selfadapt          (with ~/.zfunc in fpath)
  selfadapt completions fish > ~/.config/fish/completions/selfadapt.fish
  selfadapt completions powershell >> $PROFILE")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Write manual pages
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt man --out ~/.local/share/man/man1
  man selfadapt-segment")]
pub struct Man {
    /// Folder for the pages; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Prints the completions.
pub fn complete(args: Completions) -> Result<Outcome, Failure> {
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "selfadapt",
        &mut std::io::stdout(),
    );
    Ok(Outcome::Fine)
}

/// Writes a page for the command and for each subcommand.
///
/// # Errors
/// If the folder cannot be written into.
pub fn man(args: Man) -> Result<Outcome, Failure> {
    std::fs::create_dir_all(&args.out).map_err(|error| Error::write(&args.out, error))?;
    let mut command = Cli::command();
    // Gives every subcommand its whole name.
    command.build();
    let mut written = 0;
    pages(&command, "selfadapt", &args.out, &mut written)?;
    println!("{}: {written} pages", args.out.display());
    Ok(Outcome::Fine)
}

fn pages(
    command: &Command,
    name: &str,
    out: &std::path::Path,
    written: &mut usize,
) -> Result<(), Error> {
    let path = out.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name)
        .render(&mut page)
        .map_err(|error| Error::write(&path, error))?;
    selfadapt_core::io::atomic::write_bytes(&path, &page)?;
    *written += 1;
    for inner in command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
    {
        pages(inner, &format!("{name}-{}", inner.get_name()), out, written)?;
    }
    Ok(())
}
