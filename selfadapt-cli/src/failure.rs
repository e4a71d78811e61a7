//! How a command ends: well, with some inputs failed, or with an error and a hint.

use miette::Diagnostic;
use selfadapt_core::error::Error;

/// Exit code: some inputs failed, the others are done.
pub const SOME_FAILED: u8 = 1;
/// Exit code: bad usage or bad input.
pub const BAD_INPUT: u8 = 2;
/// Exit code: the place to write to is in no state to be written: full, closed, missing, or in use by another run.
pub const BAD_STATE: u8 = 3;
/// Exit code: a fault of the program (`EX_SOFTWARE` of sysexits).
pub const INTERNAL: u8 = 70;

/// Exit code: whoever read the output has gone (128 + SIGPIPE, as a shell reports it of other programs).
pub const NOBODY_READS: i32 = 141;

/// A command that went to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything is done.
    Fine,
    /// Some inputs failed and were listed.
    SomeFailed,
}

/// Why a command could not go to its end.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{message}")]
pub struct Failure {
    message: String,
    #[help]
    help: Option<String>,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// Bad usage or input, and what to try.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: Some(help.into()),
            code: BAD_INPUT,
        }
    }

    /// The same of a place that cannot be written.
    pub fn state(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code: BAD_STATE,
            ..Self::new(message, help)
        }
    }

    /// A panic was caught.
    pub fn internal() -> Self {
        Self {
            message: "internal error".into(),
            help: Some(
                "this is a fault of selfadapt: please report it with the lines above and the command"
                    .into(),
            ),
            code: INTERNAL,
        }
    }

    /// A model that could not be opened.
    pub fn model(error: Error) -> Self {
        let mut failure = Self::from(error);
        failure.code = BAD_INPUT;
        failure.help.get_or_insert_with(|| {
            "is it the right file? a model file is what its own package saves, or one of selfadapt's own".into()
        });
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let help = match &error {
            Error::Read { path, .. } if !path.exists() => {
                Some("check the spelling; a relative path starts at the current folder".into())
            }
            Error::Write { .. } => {
                Some("check that the folder is writable and that its disk has space left".into())
            }
            Error::Tensor(_) => Some(
                "this is probably a fault of selfadapt: please report it with the command".into(),
            ),
            _ => None,
        };
        let code = match error {
            Error::Tensor(_) => INTERNAL,
            Error::Write { .. } => BAD_STATE,
            _ => BAD_INPUT,
        };
        Self {
            message: error.to_string(),
            help,
            code,
        }
    }
}
