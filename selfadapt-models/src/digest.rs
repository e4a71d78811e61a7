//! SHA-256 of a model as it lies on disk: of a file, or of the files of a folder.

use std::fs::File;
use std::io::{Read, Result};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Bytes in lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 in hexadecimal, and bytes, of what lies at `path`: a file's own digest, or that of the lengths, names and
/// bytes of the files that lie directly in a folder, in the order of their names.
///
/// # Errors
/// If something cannot be read.
pub fn of(path: &Path) -> Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let bytes = if path.is_dir() {
        folder(path, &mut hasher)?
    } else {
        file(path, &mut hasher)?
    };
    Ok((hexadecimal(&hasher.finalize()), bytes))
}

fn folder(path: &Path, hasher: &mut Sha256) -> Result<u64> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.path().is_file() {
            files.push((entry.file_name(), entry.path()));
        }
    }
    files.sort();
    let mut bytes = 0;
    for (name, path) in files {
        // Lengths first: else bytes could move from a file to the next one's name unseen.
        let name = name.to_string_lossy();
        for length in [name.len() as u64, path.metadata()?.len()] {
            hasher.update(length.to_le_bytes());
        }
        hasher.update(name.as_bytes());
        bytes += file(&path, hasher)?;
    }
    Ok(bytes)
}

fn file(path: &Path, hasher: &mut Sha256) -> Result<u64> {
    update(hasher, File::open(path)?)
}

/// Hashes all that `reader` gives; returns how many bytes that were.
///
/// # Errors
/// If it cannot be read.
pub fn update(hasher: &mut Sha256, mut reader: impl Read) -> Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(bytes),
            n => {
                hasher.update(buffer.get(..n).unwrap_or_default());
                bytes += n as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_digest_is_that_of_the_standard() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let (sha256, bytes) = of(&path).unwrap();
        assert_eq!(bytes, 3);
        assert_eq!(
            sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_folders_digest_sees_names_bytes_and_files_but_no_subfolders() {
        let with = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("logs")).unwrap();
            for (name, bytes) in files {
                std::fs::write(folder.path().join(name), bytes).unwrap();
            }
            of(folder.path()).unwrap()
        };
        let first = with(&[("a", "12"), ("b", "3"), ("logs/x", "9")]);
        assert_eq!(first.1, 3);
        assert_eq!(first, with(&[("b", "3"), ("a", "12")]));
        let others = [
            with(&[("a", "12"), ("b", "4")]),
            with(&[("a", "1"), ("b", "23")]),
            with(&[("a", "12"), ("c", "3")]),
            with(&[("a", "12")]),
        ];
        assert!(others.iter().all(|other| other.0 != first.0), "{others:?}");
    }
}
