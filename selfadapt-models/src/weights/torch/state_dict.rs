//! Finding the one `state_dict` in a checkpoint that may wrap it in other dicts.

use std::collections::BTreeSet;

use super::storage;
use crate::weights::pickle::{Graph, Id};

/// How many dicts may wrap the state dict.
const MAX_DEPTH: usize = 4;

/// The only dict from names to tensors at the shallowest level that has any.
pub(super) fn find(graph: &Graph) -> Result<Id, String> {
    let mut level = vec![(String::new(), graph.root)];
    let mut seen = BTreeSet::new();
    for _ in 0..=MAX_DEPTH {
        let found: Vec<_> = level
            .iter()
            .filter(|(_, id)| is_state_dict(graph, *id))
            .collect();
        match found.as_slice() {
            [] => {}
            [(_, id)] => return Ok(*id),
            several => {
                let names: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
                return Err(format!(
                    "holds several sets of weights ({}); torch.save the one you want",
                    names.join(", ")
                ));
            }
        }
        let mut next = Vec::new();
        for (name, id) in &level {
            let items = graph.dict(*id).unwrap_or_default();
            for (key, value) in items {
                if let (Some(key), Some(_)) = (graph.text(*key), graph.dict(*value))
                    && seen.insert(*value)
                {
                    let path = if name.is_empty() {
                        key.to_owned()
                    } else {
                        format!("{name}.{key}")
                    };
                    next.push((path, *value));
                }
            }
        }
        level = next;
    }
    Err(format!(
        "expected a state_dict (a dict from names to tensors), found {}",
        outline(graph)
    ))
}

/// A dict that is not empty and maps strings to tensors only.
fn is_state_dict(graph: &Graph, id: Id) -> bool {
    graph.dict(id).is_some_and(|items| {
        !items.is_empty()
            && items
                .iter()
                .all(|(key, value)| graph.text(*key).is_some() && storage::is_tensor(graph, *value))
    })
}

/// What the pickle holds, for the message.
fn outline(graph: &Graph) -> String {
    let Some(items) = graph.dict(graph.root) else {
        return graph.describe(graph.root);
    };
    let entries: Vec<_> = items
        .iter()
        .take(6)
        .map(|(key, value)| {
            let key = graph
                .text(*key)
                .map_or_else(|| graph.describe(*key), str::to_owned);
            format!("{key}: {}", graph.describe(*value))
        })
        .collect();
    let more = if items.len() > 6 { ", ..." } else { "" };
    format!("a dict {{{}{more}}}", entries.join(", "))
}

/// The versions in `state_dict._metadata`, by module path, in the file's order; none in files without.
pub(super) fn module_versions(graph: &Graph, dict: Id) -> Vec<(String, i64)> {
    let state = graph.state(dict);
    let metadata = state.and_then(|state| graph.entry(state, "_metadata"));
    let Some(modules) = metadata.and_then(|metadata| graph.dict(metadata)) else {
        return Vec::new();
    };
    modules
        .iter()
        .filter_map(|(path, entry)| {
            let version = graph.int(graph.entry(*entry, "version")?)?;
            Some((graph.text(*path)?.to_owned(), version))
        })
        .collect()
}
