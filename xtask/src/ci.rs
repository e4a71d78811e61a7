//! `cargo xtask ci`: every check in order, each with its seconds.

use crate::steps::{Outcome, cargo, succeed, timed};
use crate::tidy;

/// Runs all checks and stops at the first that fails.
///
/// # Errors
/// Names the failing check.
pub fn run() -> Outcome {
    timed("format", || {
        succeed(cargo(&["fmt", "--all", "--", "--check"]))
    })?;
    timed("tidy", tidy::run)?;
    timed("clippy", || {
        succeed(cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    timed("test", || {
        // Benches are compiled by clippy above and run by hand.
        succeed(cargo(&[
            "test",
            "--locked",
            "--workspace",
            "--lib",
            "--bins",
            "--tests",
        ]))
    })?;
    timed("doc tests", || {
        succeed(cargo(&["test", "--locked", "--workspace", "--doc"]))
    })?;
    timed("doc", || {
        let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
        doc.env("RUSTDOCFLAGS", "--deny warnings");
        succeed(doc)
    })
}
