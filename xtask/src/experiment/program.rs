//! The binary that experiments run, and what every one of its commands is told.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::real::release;
use crate::steps::Outcome;

/// Which binary, and with how many threads.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// The binary [default: SELFADAPT_BINARY, else built in release]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Threads of each run [default: as many as there are processor cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

/// A binary that is there.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    threads: Option<usize>,
}

impl Which {
    /// Finds the binary, or builds it.
    ///
    /// # Errors
    /// If it is not where it was said to be, or does not build.
    pub fn program(&self) -> Outcome<Program> {
        let named = self.binary.clone();
        let named = named.or_else(|| std::env::var_os("SELFADAPT_BINARY").map(PathBuf::from));
        let path = match named {
            Some(path) if path.is_file() => path,
            Some(path) => return Err(format!("{}: there is no such binary", path.display())),
            None => release()?,
        };
        Ok(Program {
            path,
            threads: self.threads,
        })
    }
}

impl Program {
    /// A command that says nothing but errors.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--quiet");
        if let Some(threads) = self.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command.args(arguments).stdout(Stdio::null());
        command
    }

    /// Runs a command to its end; its errors are shown, all else that it says is not.
    ///
    /// # Errors
    /// If it cannot be started, or fails.
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        let mut command = self.command(arguments);
        let status = command
            .status()
            .map_err(|reason| format!("{}: {reason}", self.path.display()))?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{command:?} ended with {status}"))
        }
    }
}
