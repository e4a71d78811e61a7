//! The record beside a fetched file: where it came from, and its digest.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use md5::Md5;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_models::digest::hexadecimal;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is remembered of a fetched file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The address that gave it.
    pub source: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    pub checked: Checked,
    pub fetched_unix_seconds: u64,
    pub licence: String,
}

/// What a file was compared with when it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Checked {
    /// The MD5 that its package publishes.
    PublishedMd5,
    /// The SHA-256 that was recorded when it was fetched before.
    Recorded,
    /// Nothing: it is the first.
    FirstUse,
}

impl Checked {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::PublishedMd5 => "MD5 as published",
            Self::Recorded => "SHA-256 as recorded before",
            Self::FirstUse => "SHA-256 recorded now, as no digest is published",
        }
    }
}

/// The record's place.
pub fn path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".origin.toml");
    file.with_file_name(name)
}

/// The record of a file, if there is one; it may outlive the file.
///
/// # Errors
/// If it is damaged.
pub fn read(file: &Path) -> Result<Option<Origin>> {
    let path = path(file);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(|error| Error::read(&path, error))?;
    toml::from_str(&text)
        .map(Some)
        .map_err(|error| Error::read(&path, error))
}

/// Writes the record of a file.
///
/// # Errors
/// If it cannot be written.
pub fn write(file: &Path, origin: &Origin) -> Result<()> {
    let path = path(file);
    let text = toml::to_string(origin).map_err(|error| Error::write(&path, error))?;
    atomic::write_bytes(path, text.as_bytes())
}

/// A file's size and digests, in lower-case hexadecimal.
#[derive(Debug, PartialEq, Eq)]
pub struct Digests {
    pub bytes: u64,
    pub sha256: String,
    pub md5: String,
}

/// Reads a file once for its digests.
///
/// # Errors
/// If it cannot be read.
pub fn digests(path: &Path) -> Result<Digests> {
    let failed = |error: std::io::Error| Error::read(path, error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut sha256, mut md5, mut bytes) = (Sha256::new(), Md5::new(), 0);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            break;
        }
        sha256.update(&buffer[..read]);
        md5.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(Digests {
        bytes,
        sha256: hexadecimal(&sha256.finalize()),
        md5: hexadecimal(&md5.finalize()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let found = digests(&path).unwrap();
        assert_eq!(found.bytes, 3);
        assert_eq!(found.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert!(found.sha256.starts_with("ba7816bf8f01cfea414140de5dae2223"));
    }

    #[test]
    fn a_record_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cyto3");
        assert_eq!(read(&file).unwrap(), None);
        let origin = Origin {
            source: "http://127.0.0.1/cyto3".into(),
            bytes: 3,
            sha256: "ba".into(),
            checked: Checked::FirstUse,
            fetched_unix_seconds: 1,
            licence: "free".into(),
        };
        write(&file, &origin).unwrap();
        assert_eq!(read(&file).unwrap(), Some(origin));
        assert!(folder.path().join("cyto3.origin.toml").is_file());
    }
}
