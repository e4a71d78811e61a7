//! Files that appear whole or not at all: written beside their place, then renamed into it.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

/// How the names of unfinished files end; they begin with a dot.
const UNFINISHED: &str = ".partial";

/// Writes `path` through `fill`, so that nobody ever sees half a file there.
///
/// The bytes go to a temporary file in the same folder, are brought to disk, and only then take the name
/// `path`, replacing what was there. If anything fails the old file stays and the temporary one goes.
/// `fill` may seek, as containers with an index at the end need.
///
/// # Errors
/// If the folder is missing or not writable, the disk is full, or `fill` fails; the message names `path`.
pub fn write<T>(path: impl AsRef<Path>, fill: impl FnOnce(&mut Sink) -> Result<T>) -> Result<T> {
    let path = path.as_ref();
    let Some(name) = path.file_name() else {
        return Err(Error::write(path, "expected a file name, found none"));
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        return Err(Error::write(
            path,
            format!("there is no folder {}; create it first", folder.display()),
        ));
    }
    if path.is_dir() {
        return Err(Error::write(path, "there is a folder of that name"));
    }
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(UNFINISHED);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask still applies: the result gets the permissions of any newly created file.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let failed = |error: std::io::Error| Error::write(path, error);
    let temporary = builder.tempfile_in(folder).map_err(failed)?;
    let mut sink = Sink {
        file: BufWriter::with_capacity(1 << 16, temporary),
    };
    let value = fill(&mut sink)?;
    let temporary = sink
        .file
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary
        .persist(path)
        .map_err(|error| failed(error.error))?;
    // The rename itself survives a power cut only once the folder is on disk too; some file systems refuse
    // to sync a folder, and then there is nothing more to do.
    #[cfg(unix)]
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(value)
}

/// Whether a file's name is one that [`write()`] uses until a file is whole: what a killed process leaves behind.
pub fn is_unfinished(name: &std::ffi::OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') && name.ends_with(UNFINISHED)
}

/// Writes `bytes` to `path` as [`write()`] does.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    write(path, |sink| {
        sink.write_all(bytes)
            .map_err(|error| Error::write(path, error))
    })
}

/// Writes a value to `path` as indented JSON, as [`write()`] does; returns the text.
///
/// # Errors
/// As [`write()`], and if the value has no form in JSON.
pub fn write_json(path: impl AsRef<Path>, value: &impl Serialize) -> Result<String> {
    let path = path.as_ref();
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::write(path, e))? + "\n";
    write_bytes(path, text.as_bytes())?;
    Ok(text)
}

/// The unfinished file: buffered, and seekable.
#[derive(Debug)]
pub struct Sink {
    file: BufWriter<tempfile::NamedTempFile<File>>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Sink {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::SeekFrom;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn replaces_whole_files_and_allows_seeking() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, "an older and longer text").unwrap();
        let written = write(&path, |sink| {
            sink.write_all(b"xbc").unwrap();
            sink.seek(SeekFrom::Start(0)).unwrap();
            sink.write_all(b"a").unwrap();
            Ok(3)
        });
        assert_eq!(written.unwrap(), 3);
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn failure_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        std::fs::write(&path, "old").unwrap();
        let failed: Result<()> = write(&path, |sink| {
            sink.write_all(b"new").unwrap();
            Err(Error::Setting("stop here".to_owned()))
        });
        assert!(failed.unwrap_err().to_string().contains("stop here"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none").join("a.bin");
        let message = write_bytes(&path, b"x").unwrap_err().to_string();
        assert!(
            message.contains("there is no folder") && message.contains("none"),
            "{message}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn results_are_readable_by_others_as_the_umask_allows() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_bytes(&ours, b"x").unwrap();
        std::fs::write(&plain, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
