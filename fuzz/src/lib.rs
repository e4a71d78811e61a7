//! Every reader of the project as a function of bytes, and the files that fuzzing starts from.
#![forbid(unsafe_code)]

mod command;
pub mod readers;
pub mod seeds;

use readers::Reader;

/// All readers: those of the libraries, and those of the command.
pub fn all() -> Vec<Reader> {
    [readers::READERS, command::READERS].concat()
}

/// Seeds of a reader by its name.
///
/// # Errors
/// If a fixture cannot be read or a seed not be written.
pub fn seeds(name: &str) -> std::io::Result<Vec<Vec<u8>>> {
    match command::seeds(name) {
        Some(seeds) => Ok(seeds),
        None => seeds::of(name),
    }
}
