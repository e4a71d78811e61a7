//! A program that waits for names of parts to time: one side of `cargo xtask bench`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::steps::Outcome;

/// A running side.
pub struct Side {
    name: String,
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Side {
    /// Starts it.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(name: &str, mut command: Command) -> Outcome<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|reason| format!("cannot start {:?}: {reason}", command.get_program()))?;
        let (Some(asks), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name}: no pipes"));
        };
        Ok(Self {
            name: name.into(),
            child,
            asks,
            answers: BufReader::new(answers),
        })
    }

    /// Has one part run once, and takes what is said of it.
    ///
    /// # Errors
    /// If the program ended or said no JSON.
    pub fn ask(&mut self, part: &str) -> Outcome<Value> {
        let fail = |reason: String| format!("{}, part {part}: {reason}", self.name);
        writeln!(self.asks, "{part}").map_err(|reason| fail(reason.to_string()))?;
        let mut line = String::new();
        loop {
            line.clear();
            match self.answers.read_line(&mut line) {
                Ok(0) => return Err(fail("it ended; its own words are above".into())),
                Ok(_) => {}
                Err(reason) => return Err(fail(reason.to_string())),
            }
            // Packages print greetings.
            if line.starts_with('{') {
                return serde_json::from_str(&line).map_err(|reason| fail(reason.to_string()));
            }
        }
    }

    /// One number of what is said of a part.
    ///
    /// # Errors
    /// As [`Side::ask`], or if there is no such number.
    pub fn number(&mut self, part: &str, field: &str) -> Outcome<f64> {
        let found = self.ask(part)?;
        let number = found.get(field).and_then(Value::as_f64);
        number.ok_or_else(|| {
            format!(
                "{}, part {part}: expected a number {field}, found {found}",
                self.name
            )
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // It has nothing to finish.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
