//! The command line as a user meets it: help, messages, exit codes, files.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic)] // a test may: its helpers too

mod assets;
mod book;
mod browser;
mod cli_adapt;
mod cli_bf16;
mod cli_book;
mod cli_comfort;
mod cli_dataset;
mod cli_demo;
mod cli_evaluate;
mod cli_fetch;
#[cfg(unix)]
mod cli_inputs;
mod cli_mesmer;
mod cli_models;
mod cli_outlines;
mod cli_reliability;
mod cli_report;
mod cli_segment;
mod cli_tables;
#[cfg(unix)]
mod cli_torture;
mod cli_train;
mod dataset_fixtures;
#[cfg(unix)]
mod folders;
mod http_server;
mod numpy_fixtures;
mod stardist_cli;

use std::ffi::OsStr;
use std::path::Path;

use assert_cmd::Command;

/// The binary, to be run in `folder`; paths in its messages are then the same on every machine.
fn selfadapt(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfadapt"));
    command
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("COLUMNS")
        .env("CELLPOSE_LOCAL_MODELS_PATH", "no-models")
        .env("HOME", "home")
        // What is snapshotted is computed on the CPU, wherever there is a GPU.
        .env("CUDA_VISIBLE_DEVICES", "");
    for name in [
        "SELFADAPT_MODELS_PATH",
        "SELFADAPT_MODELS_URL",
        "SELFADAPT_OFFLINE",
        "KERAS_HOME",
    ] {
        command.env_remove(name);
    }
    command
}

/// Runs it and tells everything that it said; times and sizes of the machine are left out.
fn told(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = selfadapt(folder).args(arguments).output().unwrap();
    let code = output
        .status
        .code()
        .map_or("signal".into(), |code| code.to_string());
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    format!("exit code {code}\n--- stdout\n{out}--- stderr\n{err}")
}

/// Compares with a snapshot, times replaced.
macro_rules! assert_told {
    ($name:expr, $told:expr) => {
        insta::with_settings!({
            filters => vec![
                (r"\d+\.\d s\b", "[time] s"),
                (r"no GPU is used: .*", "no GPU is used: [reason]"),
            ],
            omit_expression => true,
            prepend_module_to_snapshot => false,
            snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/snapshots"),
        }, {
            insta::assert_snapshot!($name, $told);
        });
    };
}
use assert_told;

#[test]
fn help_of_every_subcommand() {
    let here = Path::new(".");
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("help_segment", &["segment", "--help"]),
        ("help_adapt", &["adapt", "--help"]),
        ("help_dataset", &["dataset", "--help"]),
        ("help_degrade", &["degrade", "--help"]),
        ("help_evaluate", &["evaluate", "--help"]),
        ("help_models", &["models", "--help"]),
        ("help_models_list", &["models", "list", "--help"]),
        ("help_models_fetch", &["models", "fetch", "--help"]),
        ("help_models_info", &["models", "info", "--help"]),
        ("help_models_add", &["models", "add", "--help"]),
        ("help_models_convert", &["models", "convert", "--help"]),
        ("help_models_remove", &["models", "remove", "--help"]),
        ("help_pick", &["pick", "--help"]),
        ("help_report", &["report", "--help"]),
        ("help_doctor", &["doctor", "--help"]),
        ("help_completions", &["completions", "--help"]),
        ("help_man", &["man", "--help"]),
        ("help_train", &["train", "--help"]),
        ("help_demo", &["demo", "--help"]),
    ] {
        assert_told!(name, told(here, arguments));
    }
}

#[test]
fn bad_usage_is_exit_code_2() {
    let here = Path::new(".");
    for arguments in [
        &[][..],
        &["segmant"],
        &["segment", "a.tif"],
        &["evaluate", "--pred", "a"],
        &[
            "segment",
            "a.tif",
            "--model",
            "m",
            "--out",
            "o",
            "--channels",
            "x",
        ],
    ] {
        let output = selfadapt(here).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}
