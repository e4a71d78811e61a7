//! The `selfadapt` command: segment images, evaluate segmentations, look at models.
#![forbid(unsafe_code)]
#![allow(rustdoc::invalid_html_tags)] // the doc comments of arguments are help texts, where <stem> stands for itself

mod adapt;
mod args;
mod axes;
#[cfg(test)]
#[path = "../../tests/book.rs"]
mod book;
mod cellpose_flags;
mod completions;
mod console;
mod dataset;
mod degrade;
mod demo;
mod device;
mod doctor;
mod evaluate;
mod failure;
mod inputs;
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
    leave_quietly_when_nobody_reads();
    let translated = match cellpose_flags::translate(std::env::args_os().collect()) {
        Ok(translated) => translated,
        Err(failure) => {
            let code = failure.code;
            console::show(failure);
            return ExitCode::from(code);
        }
    };
    let cli = args::Cli::parse_from(translated.arguments);
    console::set_up(&cli.console);
    for note in translated.notes {
        tracing::info!("{note}");
    }
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

/// `selfadapt ... | head -1` closes our output early: that is no fault, and other programs end then without a word.
fn leave_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload().downcast_ref::<String>();
        if said.is_some_and(|said| {
            said.starts_with("failed printing to std") && said.contains("Broken pipe")
        }) {
            std::process::exit(failure::NOBODY_READS);
        }
        usual(panic);
    }));
}
