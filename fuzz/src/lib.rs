//! Every reader of the project as a function of bytes, and the files that fuzzing starts from.
#![forbid(unsafe_code)]

mod command;
pub mod readers;
pub mod seeds;

// As the workspace's tests call it, which take in the same files.
use readers as fuzz_readers;
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

/// Writes the seeds of every reader to FOLDER/READER/, and prints the readers' names.
///
/// # Errors
/// If a seed cannot be made or written.
pub fn write_seeds(folder: &std::path::Path) -> std::io::Result<()> {
    for reader in all() {
        let folder = folder.join(reader.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds(reader.name)?.into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:03}")), seed)?;
        }
        println!("{}", reader.name);
    }
    Ok(())
}
