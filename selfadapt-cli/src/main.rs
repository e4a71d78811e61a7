//! The `selfadapt` command: segment images, evaluate segmentations, look at models.
#![forbid(unsafe_code)]
#![allow(rustdoc::invalid_html_tags)] // the doc comments of arguments are help texts, where <stem> stands for itself

mod adapt;
mod args;
mod console;
mod degrade;
mod demo;
mod evaluate;
mod failure;
mod models;
mod pick;
mod report;
mod segment;
mod train;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use clap::Parser;

use failure::{Failure, Outcome};

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    console::set_up(&cli.console);
    // A panic is a fault of ours and must not look like bad input; its message is already printed.
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| cli.run()))
        .unwrap_or_else(|_| Err(Failure::internal()));
    match ended {
        Ok(Outcome::Fine) => ExitCode::SUCCESS,
        Ok(Outcome::SomeFailed) => ExitCode::from(failure::SOME_FAILED),
        Err(failure) => {
            let code = failure.code;
            console::show(failure);
            ExitCode::from(code)
        }
    }
}
