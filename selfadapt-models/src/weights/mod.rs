//! Named tensors on disk: the containers that model weights come in, each in its own file.

mod bytes;
pub mod pickle;
pub mod torch;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use selfadapt_core::error::Result;

/// The named tensors of one file, in the file's order.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// Names and tensors (CPU, contiguous, in the file's number type).
    pub tensors: Vec<(String, Tensor)>,
    /// What else the file says: see [`Layout`] and the readers.
    pub layout: Layout,
    /// Free text by key (safetensors' `__metadata__`; empty for torch checkpoints).
    pub metadata: BTreeMap<String, String>,
}

/// How a file was laid out, kept so that what is written later has the same shape.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Tensor names in the order of the file.
    pub order: Vec<String>,
    /// Version of each module by its path, as torch keeps it in `state_dict._metadata`.
    pub module_versions: Vec<(String, i64)>,
}

impl Weights {
    /// The names, in the file's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, _)| name.as_str())
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, tensor)| tensor)
    }

    /// The tensors as a network computes with them: every floating-point type becomes f32, integers
    /// stay, and the prefix `module.` that torch's `DataParallel` puts before every name is dropped.
    ///
    /// # Errors
    /// If a tensor cannot be converted.
    pub fn for_network(&self) -> Result<Vec<(String, Tensor)>> {
        let wrapped =
            !self.tensors.is_empty() && self.names().all(|name| name.starts_with("module."));
        self.tensors
            .iter()
            .map(|(name, tensor)| {
                let name = match name.strip_prefix("module.") {
                    Some(bare) if wrapped => bare,
                    _ => name,
                };
                let tensor = if tensor.dtype().is_float() {
                    tensor.to_dtype(DType::F32)?
                } else {
                    tensor.clone()
                };
                Ok((name.to_owned(), tensor))
            })
            .collect()
    }
}
