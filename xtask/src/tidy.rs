//! `cargo xtask tidy`: house rules that neither rustfmt nor clippy knows.

use std::path::Path;
use std::process::Command;

use crate::steps::{Outcome, capture, root};

/// The most lines that a source file may have.
const LINES: usize = 400;

/// The most bytes that a committed file may have.
const BYTES: u64 = 1_000_000;

/// Macros that mark unfinished work, split so that this file does not name them.
const UNFINISHED: [&str; 3] = [
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
];

/// The only crate that may hold unsafe code.
const UNSAFE_CRATE: &str = "selfadapt-kernels/";

/// Checks every file that git tracks or would track.
///
/// # Errors
/// If a rule is broken; every breach is printed first.
pub fn run() -> Outcome {
    let root = root();
    let mut list = Command::new("git");
    list.args([
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ])
    .current_dir(&root);
    let listed = capture(list)?;
    let mut breaches = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let path = root.join(name);
        // A file deleted but not yet committed is still listed.
        let Ok(metadata) = path.metadata() else {
            continue;
        };
        if metadata.len() > BYTES {
            breaches.push(format!("{name}: {} bytes, at most {BYTES}", metadata.len()));
        }
        if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path)
                .map_err(|reason| format!("{}: {reason}", path.display()))?;
            breaches.extend(
                check_source(name, &text)
                    .into_iter()
                    .map(|breach| format!("{name}: {breach}")),
            );
        }
    }
    for breach in &breaches {
        println!("{breach}");
    }
    match breaches.len() {
        0 => Ok(()),
        1 => Err("1 breach of the house rules, listed above".into()),
        n => Err(format!("{n} breaches of the house rules, listed above")),
    }
}

/// What is wrong with one source file.
fn check_source(name: &str, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    if !text.starts_with("//! ") {
        breaches.push("the first line must be `//! ` and say what the file does".into());
    }
    let lines = text.lines().count();
    if lines > LINES {
        breaches.push(format!("{lines} lines, at most {LINES}: split it"));
    }
    for (number, line) in text.lines().enumerate() {
        for unfinished in UNFINISHED {
            if line.contains(unfinished) {
                breaches.push(format!("line {}: {unfinished}..)", number + 1));
            }
        }
    }
    if is_crate_root(name)
        && !name.starts_with(UNSAFE_CRATE)
        && !text.contains("#![forbid(unsafe_code)]")
    {
        breaches.push("a crate root must say #![forbid(unsafe_code)]".into());
    }
    breaches
}

/// Whether the file is a crate's first: `lib.rs` or `main.rs` beside a manifest or in its `src`.
fn is_crate_root(name: &str) -> bool {
    let path = Path::new(name);
    let file = path.file_name().and_then(|file| file.to_str());
    let depth = path.components().count();
    let in_src = path
        .parent()
        .and_then(Path::file_name)
        .is_some_and(|folder| folder == "src");
    matches!(file, Some("lib.rs" | "main.rs")) && ((depth == 3 && in_src) || depth == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_has_no_breach() {
        assert!(check_source("selfadapt-core/src/gate.rs", "//! Gates.\nfn f() {}\n").is_empty());
    }

    #[test]
    fn each_rule_is_seen() {
        let unfinished = format!("//! A.\nfn f() {{ {}) }}\n", UNFINISHED[0]);
        assert_eq!(check_source("a/src/b.rs", &unfinished).len(), 1);
        assert_eq!(check_source("a/src/b.rs", "fn f() {}\n").len(), 1);
        assert_eq!(check_source("a/src/lib.rs", "//! A.\n").len(), 1);
        assert_eq!(check_source("tests/main.rs", "//! A.\n").len(), 1);
        assert!(check_source("selfadapt-kernels/src/lib.rs", "//! A.\n").is_empty());
        let long = format!("//! A.\n{}", "\n".repeat(LINES));
        assert_eq!(check_source("a/src/b.rs", &long).len(), 1);
    }
}
