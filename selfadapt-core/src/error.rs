//! What can go wrong in the library, and what to try.

use std::path::{Path, PathBuf};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the library. Each message says what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tensor library refused an operation.
    #[error("tensor operation failed: {}", without_backtrace(.0))]
    Tensor(#[from] candle_core::Error),

    /// Weights do not fit the model that they were offered to.
    #[error("the weights do not fit this model: {0}")]
    Weights(String),

    /// A file could not be read as what it should be.
    #[error("{}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found.
        reason: String,
    },

    /// A file could not be written.
    #[error("{}: cannot write: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },

    /// An image does not suit the model or the settings.
    #[error("unsuitable image: {0}")]
    Image(String),

    /// A setting has no meaning or lies outside its range.
    #[error("bad setting: {0}")]
    Setting(String),

    /// A label image breaks a rule that every label image keeps.
    #[error("bad labels: {0}")]
    Labels(String),

    /// The loss or the weights stopped being numbers.
    #[error("not a number: {0}")]
    NotFinite(String),
}

impl Error {
    /// A reader's complaint about `path`.
    pub fn read(path: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::Read {
            path: path.as_ref().to_owned(),
            reason: reason.to_string(),
        }
    }

    /// A writer's complaint about `path`.
    pub fn write(path: impl AsRef<Path>, reason: impl std::fmt::Display) -> Self {
        Self::Write {
            path: path.as_ref().to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// The tensor library's message; with `RUST_BACKTRACE` its own `Display` would add pages of stack.
pub(crate) fn without_backtrace(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => without_backtrace(inner),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_no_stack_in_it() {
        // What candle returns where RUST_BACKTRACE is set.
        let inner = candle_core::Error::Msg("conv2d: no".into());
        let error = Error::from(candle_core::Error::WithBacktrace {
            inner: Box::new(inner),
            backtrace: Box::new(std::backtrace::Backtrace::force_capture()),
        });
        assert_eq!(error.to_string(), "tensor operation failed: conv2d: no");
    }
}
