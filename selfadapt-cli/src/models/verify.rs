//! Whether what came over the network is the file that was asked for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::catalogue::Digest;
use super::download::Download;
use super::origin::{self, Checked, Origin};

/// Compares what came with what is known of the file. Anything wrong is thrown away.
///
/// # Errors
/// What was expected and what was found, in words.
pub fn accept(
    download: &Download,
    path: &Path,
    digest: Digest,
    recorded: Option<&Origin>,
) -> Result<(origin::Digests, Checked), String> {
    let found = origin::digests(download.path()).map_err(|error| error.to_string())?;
    let refuse = |reason: String| {
        download.discard();
        Err(reason)
    };
    if !looks_right(download.path(), path) {
        return refuse(format!(
            "what came is no {}: a page of the site perhaps",
            kind(path)
        ));
    }
    if let Digest::Md5(published) = digest {
        if found.md5 != published {
            return refuse(format!(
                "expected the published MD5 {published}, found {}",
                found.md5
            ));
        }
        return Ok((found, Checked::PublishedMd5));
    }
    let Some(recorded) = recorded else {
        return Ok((found, Checked::FirstUse));
    };
    if found.sha256 != recorded.sha256 {
        return refuse(format!(
            "expected SHA-256 {}, as recorded from {}, found {}; if the new file is to be trusted, remove {} first",
            recorded.sha256,
            recorded.source,
            found.sha256,
            origin::path(path).display()
        ));
    }
    Ok((found, Checked::Recorded))
}

/// What a file of this name holds.
fn kind(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => "NumPy file",
        Some("zip") => "zip archive",
        _ => "torch file",
    }
}

/// Whether the first bytes are those of such a file.
fn looks_right(came: &Path, path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(came).and_then(|file| file.take(8).read_to_end(&mut head));
    let starts: &[&[u8]] = match kind(path) {
        "NumPy file" => &[b"\x93NUMPY"],
        "zip archive" => &[b"PK\x03\x04"],
        // Archives since torch 1.6, and plain pickles before.
        _ => &[b"PK\x03\x04", b"\x80\x02"],
    };
    read.is_ok() && starts.iter().any(|start| head.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_digest_decides() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.zip");
        let download = Download::of(&path);
        let accept_as = |md5| {
            std::fs::write(download.path(), b"PK\x03\x04 whole").unwrap();
            accept(&download, &path, Digest::Md5(md5), None)
        };
        let right = "28f969e159f9529395ee7f0b41aedb5d";
        let (digests, checked) = accept_as(right).unwrap();
        assert_eq!((digests.bytes, checked), (10, Checked::PublishedMd5));
        assert!(download.path().exists());
        let message = accept_as("00").unwrap_err();
        assert!(message.contains(right), "{message}");
        assert!(!download.path().exists(), "what is wrong is thrown away");
    }

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let came = folder.path().join("came");
        for (name, bytes, right) in [
            ("cyto3", &b"PK\x03\x04"[..], true),
            ("cyto", b"\x80\x02\x8a", true),
            ("cyto3", b"<html>", false),
            ("cyto3", b"", false),
            ("size_cyto3.npy", b"\x93NUMPY\x01", true),
            ("size_cyto3.npy", b"PK\x03\x04", false),
            ("2D_demo.zip", b"PK\x03\x04", true),
        ] {
            std::fs::write(&came, bytes).unwrap();
            assert_eq!(
                looks_right(&came, Path::new(name)),
                right,
                "{name} {bytes:?}"
            );
        }
    }
}
