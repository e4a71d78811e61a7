//! Running other programs from the workspace's root, timed.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// What a task returns: nothing, or a line that says what went wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// The workspace's root.
pub fn root() -> PathBuf {
    // `cargo run` tells where this crate lies now; the compiled-in path is where it lay when built.
    let here = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or(here.clone(), PathBuf::from)
}

/// The cargo that runs this program, set to work in the root.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs one named step to its end and prints its seconds.
///
/// # Errors
/// If `step` fails.
pub fn timed(name: &str, step: impl FnOnce() -> Outcome) -> Outcome {
    println!("--- {name}");
    let start = Instant::now();
    let outcome = step();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!(
        "--- {name}: {verdict}, {:.1} s",
        start.elapsed().as_secs_f64()
    );
    outcome.map_err(|reason| format!("{name}: {reason}"))
}

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started or does not exit with 0.
pub fn succeed(mut command: Command) -> Outcome {
    let status = command
        .status()
        .map_err(|reason| format!("cannot start {:?}: {reason}", command.get_program()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("ended with {status}"))
    }
}

/// Runs a program to its end and takes what it printed.
///
/// # Errors
/// If it cannot be started, does not exit with 0, or prints something other than UTF-8.
pub fn capture(mut command: Command) -> Outcome<String> {
    let output = command
        .output()
        .map_err(|reason| format!("cannot start {:?}: {reason}", command.get_program()))?;
    if !output.status.success() {
        return Err(format!(
            "{:?} ended with {}: {}",
            command.get_program(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    String::from_utf8(output.stdout).map_err(|reason| reason.to_string())
}
