//! Named tensors on disk: the containers that model weights come in, each in its own file.

mod bytes;
pub mod cellpose_keys;
pub mod hdf5;
mod numpy;
pub mod onnx;
pub mod pickle;
pub mod safetensors;
pub mod size_model;
pub mod torch;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};
use selfadapt_core::error::Result;
use selfadapt_core::params::ParamSet;

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

    /// Parameters as a writer takes them: in the order of `layout`, then any others in the order of their
    /// names.
    pub fn of_params(params: &ParamSet, layout: &Layout) -> Self {
        let listed: BTreeSet<&str> = layout.order.iter().map(String::as_str).collect();
        let tensor = |name: &str| Some((name.to_owned(), params.get(name)?.as_detached_tensor()));
        let first = layout.order.iter().filter_map(|name| tensor(name));
        let others = params
            .tensors()
            .filter(|(name, _, _)| !listed.contains(name))
            .map(|(name, tensor, _)| (name.to_owned(), tensor));
        let tensors: Vec<_> = first.chain(others).collect();
        Self {
            layout: Layout {
                order: tensors.iter().map(|(name, _)| name.clone()).collect(),
                module_versions: layout.module_versions.clone(),
            },
            tensors,
            metadata: BTreeMap::new(),
        }
    }

    /// The weights as a network computes with them: every floating-point type becomes f32, integers
    /// stay, and the prefix `module.` that torch's `DataParallel` puts before every name is dropped.
    ///
    /// # Errors
    /// If a tensor cannot be converted.
    pub fn for_network(self) -> Result<Self> {
        let wrapped =
            !self.tensors.is_empty() && self.names().all(|name| name.starts_with("module."));
        let bare = |name: String| match name.strip_prefix("module.") {
            Some(bare) if wrapped => bare.to_owned(),
            _ => name,
        };
        let tensors = self
            .tensors
            .into_iter()
            .map(|(name, tensor)| {
                let float = tensor.dtype().is_float();
                let tensor = if float {
                    tensor.to_dtype(DType::F32)?
                } else {
                    tensor
                };
                Ok((bare(name), tensor))
            })
            .collect::<Result<Vec<_>>>()?;
        let module_versions =
            self.layout
                .module_versions
                .into_iter()
                .filter_map(|(path, version)| {
                    match path.strip_prefix("module") {
                        _ if !wrapped => Some((path, version)),
                        // The wrapper itself has the empty path, and what it wraps "module".
                        None => None,
                        Some(bare) => Some((bare.trim_start_matches('.').to_owned(), version)),
                    }
                });
        Ok(Self {
            layout: Layout {
                order: tensors.iter().map(|(name, _)| name.clone()).collect(),
                module_versions: module_versions.collect(),
            },
            tensors,
            metadata: self.metadata,
        })
    }
}
