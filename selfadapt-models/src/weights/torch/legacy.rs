//! Checkpoints from before torch 1.6: pickles one after the other, then the storages.
//!
//! ```text
//! pickle  magic number        pickle  protocol (1001)     pickle  about the system (byte order)
//! pickle  the object          pickle  list of storage keys
//! for each key: number of elements (i64), then the elements, raw
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};

use super::{storage, weights};
use crate::weights::Weights;
use crate::weights::pickle::{self, Graph, Node};

/// The pickled magic number that every such file begins with.
pub(super) const MAGIC: [u8; 15] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e,
];

/// Reads such a file from its start.
pub(super) fn read(mut file: File) -> Result<Weights, String> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    let mut rest = bytes.get(MAGIC.len()..).unwrap_or_default();
    let _protocol = next(&mut rest)?;
    let system = next(&mut rest)?;
    let little = system.entry(system.root, "little_endian");
    if little.is_some_and(|id| system.node(id) == &Node::Bool(false)) {
        return Err("written on a big-endian machine; save it again on an ordinary one".into());
    }
    let graph = next(&mut rest)?;
    let keys = next(&mut rest)?;
    let keys = keys
        .sequence(keys.root)
        .unwrap_or_default()
        .iter()
        .map(|&id| keys.text(id).map(str::to_owned))
        .collect::<Option<Vec<_>>>()
        .ok_or("its list of storages is malformed")?;
    let widths = storage::widths(&graph);
    let mut storages = BTreeMap::new();
    for key in keys {
        let truncated = || format!("storage {key} is cut short: the file is truncated");
        let (count, after) = rest.split_first_chunk().ok_or_else(truncated)?;
        let width = widths.get(key.as_str()).copied();
        let length = usize::try_from(i64::from_le_bytes(*count))
            .ok()
            .zip(width)
            .and_then(|(count, width)| count.checked_mul(width))
            .ok_or_else(|| format!("storage {key} belongs to no tensor or has no length"))?;
        let (storage, after) = after.split_at_checked(length).ok_or_else(truncated)?;
        storages.insert(key, storage);
        rest = after;
    }
    weights(&graph, &mut |key, _| {
        let storage = storages.get(key);
        storage
            .map(|bytes| bytes.to_vec())
            .ok_or_else(|| format!("its storage {key} is missing"))
    })
}

/// The next pickle, which `rest` is moved behind.
fn next(rest: &mut &[u8]) -> Result<Graph, String> {
    let within = rest.get(..pickle::MAX_BYTES).unwrap_or(rest);
    let graph = pickle::parse(within, storage::is_allowed)?;
    *rest = rest.get(graph.end..).unwrap_or_default();
    Ok(graph)
}
