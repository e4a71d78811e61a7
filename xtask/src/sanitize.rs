//! `cargo xtask sanitize`: the kernels' own tests under AddressSanitizer, which sees what unsafe code reads or writes
//! beyond its arrays.

use crate::steps::{Outcome, capture, cargo, root, succeed, timed};

/// Run the kernels' tests under AddressSanitizer
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only tests whose names contain this
    filter: Option<String>,
}

pub fn run(args: &Args) -> Outcome {
    let host = host()?;
    let target = root().join("target/sanitize");
    timed("AddressSanitizer, selfadapt-kernels", || {
        // Naming the host as a target keeps build scripts and macros free of the sanitizer; one package alone has
        // dependencies with other features, so they go to a folder of their own.
        let mut test = cargo(&[
            "test",
            "--locked",
            "--package",
            "selfadapt-kernels",
            "--lib",
        ]);
        test.args(["--target", &host, "--target-dir"]).arg(&target);
        test.args(args.filter.as_slice());
        // The flag is not stable yet; a stable compiler takes it when it is told to act as a nightly one.
        test.env("RUSTC_BOOTSTRAP", "1");
        test.env("RUSTFLAGS", "-Zsanitizer=address");
        succeed(test)
    })
}

/// What rustc calls this machine.
fn host() -> Outcome<String> {
    let mut rustc = std::process::Command::new("rustc");
    rustc.arg("-vV");
    let told = capture(rustc)?;
    let line = told.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned)
        .ok_or_else(|| format!("rustc -vV names no host: {told}"))
}
