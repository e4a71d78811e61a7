//! Checkpoints as `torch.save` writes them: a zip of a pickle and raw storages. Nothing in them is executed.
//!
//! ```text
//! archive/data.pkl        state_dict: names, shapes, strides, which storage
//! archive/byteorder       "little"
//! archive/data/0, 1, ..   storages, raw
//! archive/version         "3\n"
//! ```

mod legacy;
mod state_dict;
mod storage;
mod write;

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use selfadapt_core::error::{Error, Result};
use zip::ZipArchive;

use super::pickle::{self, Graph};
use super::{Layout, Weights};

pub use write::write;

type Archive = ZipArchive<BufReader<File>>;

/// Whether the first bytes of a file are those of a zip archive; [`is_archive`] tells what is in it.
pub fn is_zip(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

/// Whether the first bytes of a file are those of a checkpoint from before torch 1.6.
pub fn is_legacy(head: &[u8]) -> bool {
    head.starts_with(&legacy::MAGIC)
}

/// Reads the tensors of a checkpoint, in its order, with the number types that it holds (`bool` becomes u8,
/// `int8` i16), and the module versions of `state_dict._metadata`.
///
/// The file may hold the `state_dict` itself or a dict with exactly one `state_dict` somewhere inside
/// (`{"model": ..., "epoch": ...}`). Strided and offset views are gathered. Zip and the older bare-pickle
/// format are both read.
///
/// # Errors
/// If the file is truncated or damaged, was written on a big-endian machine, needs any Python object beyond
/// tensors and plain containers (nothing is executed), or holds no or several candidates for the `state_dict`.
pub fn read(path: impl AsRef<Path>) -> Result<Weights> {
    let path = path.as_ref();
    let complain = |reason: String| Error::read(path, reason);
    let mut file = File::open(path).map_err(|error| Error::read(path, error))?;
    let mut head = Vec::new();
    file.by_ref()
        .take(legacy::MAGIC.len() as u64)
        .read_to_end(&mut head)
        .map_err(|error| Error::read(path, error))?;
    if head.starts_with(&legacy::MAGIC) {
        return legacy::read(file).map_err(complain);
    }
    if !head.starts_with(b"PK") {
        return Err(complain(
            "expected a torch checkpoint (a zip that begins with PK), found something else".into(),
        ));
    }
    let mut archive = open(path)?;
    read_archive(&mut archive).map_err(complain)
}

/// Whether a zip file holds a torch checkpoint, rather than, say, a zipped folder.
///
/// # Errors
/// If the file cannot be read as a zip, as when it is truncated.
pub fn is_archive(path: impl AsRef<Path>) -> Result<bool> {
    let archive = open(path.as_ref())?;
    Ok(names(&archive).any(|name| is_pickle(&name)))
}

/// The names of a zip's entries; those that are not text are no concern of ours.
fn names(archive: &Archive) -> impl Iterator<Item = String> {
    archive.file_names().flatten().map(Cow::into_owned)
}

fn is_pickle(entry: &str) -> bool {
    entry == "data.pkl" || entry.ends_with("/data.pkl")
}

fn open(path: &Path) -> Result<Archive> {
    let file = File::open(path).map_err(|error| Error::read(path, error))?;
    ZipArchive::new(BufReader::new(file)).map_err(|error| {
        Error::read(
            path,
            format!("begins as a zip and has no readable index ({error}): truncated or damaged; copy or download it again"),
        )
    })
}

fn read_archive(archive: &mut Archive) -> Result<Weights, String> {
    let pickles: Vec<_> = names(archive).filter(|name| is_pickle(name)).collect();
    let root = match pickles.as_slice() {
        [name] => name.strip_suffix("data.pkl").unwrap_or_default(),
        [] => return Err("a zip without data.pkl: not a torch checkpoint".into()),
        _ => return Err("a zip with several data.pkl: expected one".into()),
    };
    if archive
        .index_for_name(&format!("{root}byteorder"))
        .is_some()
    {
        let order = entry(archive, &format!("{root}byteorder"), 16)?;
        if order != b"little" {
            return Err(format!(
                "byte order {:?}: only \"little\" is read; save it again on an ordinary machine",
                String::from_utf8_lossy(&order)
            ));
        }
    }
    let torchscript = archive
        .index_for_name(&format!("{root}constants.pkl"))
        .is_some();
    let pickled = entry(archive, &format!("{root}data.pkl"), pickle::MAX_BYTES)?;
    let graph = pickle::parse(&pickled, storage::is_allowed).map_err(|reason| {
        let hint = if torchscript {
            "it is a TorchScript archive"
        } else {
            "the file holds more than weights"
        };
        format!("{reason}; {hint}, and torch.save(model.state_dict(), path) makes one that opens")
    })?;
    weights(&graph, &mut |key, bytes| {
        entry(archive, &format!("{root}data/{key}"), bytes)
    })
}

/// The state dict of a pickle, its storages coming from `fetch(key, at most so many bytes)`.
fn weights(graph: &Graph, fetch: storage::Fetch) -> Result<Weights, String> {
    let dict = state_dict::find(graph)?;
    let tensors = storage::tensors(graph, dict, fetch)?;
    Ok(Weights {
        layout: Layout {
            order: tensors.iter().map(|(name, _)| name.clone()).collect(),
            module_versions: state_dict::module_versions(graph, dict),
        },
        tensors,
        ..Weights::default()
    })
}

/// The bytes of a zip entry, stored or deflated, refused beyond `limit`; its checksum is verified.
fn entry(archive: &mut Archive, name: &str, limit: usize) -> Result<Vec<u8>, String> {
    let file = archive
        .by_name(name)
        .map_err(|error| format!("its entry {name} cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("its entry {name} is damaged: {error}"))?;
    if bytes.len() > limit {
        return Err(format!(
            "its entry {name} is longer than the {limit} bytes expected"
        ));
    }
    Ok(bytes)
}
