//! Between Keras' names and layouts of weights and ours (PyTorch's).

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::params::ParamSet;

use super::StarDistConfig;
use super::plan::{Convolution, Plan};
use crate::weights::hdf5::KerasLayer;

/// What Keras calls the arrays of a convolution and of a batch normalisation, in its order, and what we call them.
const CONVOLUTION: [(&str, &str); 2] = [("kernel", "weight"), ("bias", "bias")];
const NORM: [(&str, &str); 4] = [
    ("gamma", "weight"),
    ("beta", "bias"),
    ("moving_mean", "running_mean"),
    ("moving_variance", "running_var"),
];

/// Names the arrays of a Keras file as the network asks for them, and turns kernels `[h, w, in, out]` into
/// `[out, in, h, w]`.
///
/// Layers that Keras numbers by itself (`conv2d_7`) are taken in the order of their numbers, which depend on how many
/// models were made before.
///
/// # Errors
/// If layers or arrays are missing, left over, or of another shape than the configuration says.
pub fn import(
    config: &StarDistConfig,
    arrays: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, String> {
    let mut layers = by_layer(arrays)?;
    let plan = Plan::of(config);
    let wanted: Vec<Wanted> = plan.layers().flat_map(wanted).collect();
    renumber(&mut layers, &wanted)?;
    let mut tensors = Vec::new();
    for layer in &wanted {
        let found = layers.remove(&layer.name).ok_or_else(|| {
            format!(
                "there is no layer {}, which config.json asks for; {}",
                layer.name,
                mismatch(&layers)
            )
        })?;
        tensors.extend(layer.tensors(found)?);
    }
    if !layers.is_empty() {
        return Err(format!(
            "config.json knows nothing of {}",
            listed(&layers.keys().cloned().collect())
        ));
    }
    Ok(tensors)
}

/// The layers of a Keras file, in the order of the model.
///
/// # Errors
/// If a parameter is missing.
pub fn export(config: &StarDistConfig, params: &ParamSet) -> Result<Vec<KerasLayer>> {
    let mut layers = Vec::new();
    for layer in Plan::of(config).layers().flat_map(wanted) {
        let arrays = layer
            .arrays()
            .iter()
            .map(|&(keras, ours)| {
                let name = format!("{}.{ours}", layer.name);
                let tensor = params
                    .get(&name)
                    .ok_or_else(|| Error::Weights(format!("{name} is missing")))?
                    .as_detached_tensor();
                let tensor = if keras == "kernel" {
                    tensor.permute((2, 3, 1, 0))?.contiguous()?
                } else {
                    tensor
                };
                Ok((keras, tensor.to_device(&Device::Cpu)?))
            })
            .collect::<Result<_>>()?;
        layers.push(KerasLayer {
            name: layer.name,
            arrays,
        });
    }
    Ok(layers)
}

/// A Keras layer that the network needs.
struct Wanted {
    name: String,
    /// `[h, w, in, out]` of a convolution, channels of a norm.
    shape: Vec<usize>,
}

fn wanted(layer: &Convolution) -> Vec<Wanted> {
    let mut all = vec![Wanted {
        name: layer.name.clone(),
        shape: vec![layer.side, layer.side, layer.inputs, layer.outputs],
    }];
    all.extend(layer.norm.iter().map(|name| Wanted {
        name: name.clone(),
        shape: vec![layer.outputs],
    }));
    all
}

impl Wanted {
    fn arrays(&self) -> &'static [(&'static str, &'static str)] {
        if self.shape.len() == 4 {
            &CONVOLUTION
        } else {
            &NORM
        }
    }

    fn tensors(
        &self,
        mut found: BTreeMap<String, &Tensor>,
    ) -> Result<Vec<(String, Tensor)>, String> {
        let mut tensors = Vec::new();
        for (place, &(keras, ours)) in self.arrays().iter().enumerate() {
            // Keras 3 numbers the arrays of a layer instead of naming them.
            let tensor = found
                .remove(keras)
                .or_else(|| found.remove(&place.to_string()))
                .ok_or_else(|| format!("{}: there is no {keras}", self.name))?;
            let expected: &[usize] = match keras {
                "kernel" => &self.shape,
                _ => &self.shape[self.shape.len() - 1..],
            };
            if tensor.dims() != expected {
                return Err(format!(
                    "{}/{keras}: config.json says {expected:?}, the file holds {:?}; is this the weights file of \
                     another architecture?",
                    self.name,
                    tensor.dims()
                ));
            }
            let tensor = if keras == "kernel" {
                tensor.permute((3, 2, 0, 1)).and_then(|t| t.contiguous())
            } else {
                Ok(tensor.clone())
            };
            let tensor = tensor.map_err(|error| error.to_string())?;
            tensors.push((format!("{}.{ours}", self.name), tensor));
        }
        if self.shape.len() == 1 {
            // PyTorch counts batches; Keras does not, and nothing depends on it.
            let count = Tensor::zeros((), DType::I64, &Device::Cpu).map_err(|e| e.to_string())?;
            tensors.push((format!("{}.num_batches_tracked", self.name), count));
        }
        if let Some(extra) = found.keys().next() {
            return Err(format!("{}: {extra} is not expected", self.name));
        }
        Ok(tensors)
    }
}

type Layers<'a> = BTreeMap<String, BTreeMap<String, &'a Tensor>>;

/// Arrays by layer and by their own name. Knows `conv/conv/kernel:0` (Keras 2), `conv/conv/kernel` (Keras 3),
/// both below `model_weights` (whole models), and `layers/conv/vars/0` (Keras 3, `.weights.h5`).
fn by_layer(arrays: &[(String, Tensor)]) -> Result<Layers<'_>, String> {
    let mut layers = Layers::new();
    for (path, tensor) in arrays {
        let mut parts: Vec<&str> = path.split('/').collect();
        match parts.first().copied() {
            Some("model_weights" | "layers") => {
                parts.remove(0);
            }
            // What the optimiser remembers is no part of the network.
            Some("optimizer_weights" | "optimizer") => continue,
            _ => {}
        }
        let (Some(layer), Some(array), true) = (parts.first(), parts.last(), parts.len() > 1)
        else {
            return Err(format!("{path}: expected arrays below the name of a layer"));
        };
        let array = array.trim_end_matches(":0").to_owned();
        layers
            .entry((*layer).to_owned())
            .or_default()
            .insert(array, tensor);
    }
    Ok(layers)
}

/// Gives the layers that Keras numbers by itself the numbers that they have in a first model.
fn renumber(layers: &mut Layers<'_>, wanted: &[Wanted]) -> Result<(), String> {
    for kind in ["conv2d", "batch_normalization"] {
        let number = |name: &str| -> Option<usize> {
            match name.strip_prefix(kind)? {
                "" => Some(0),
                rest => rest.strip_prefix('_')?.parse().ok(),
            }
        };
        let mut found: Vec<(usize, String)> = layers
            .keys()
            .filter_map(|name| Some((number(name)?, name.clone())))
            .collect();
        found.sort_unstable();
        let count = wanted.iter().filter(|w| number(&w.name).is_some()).count();
        if found.len() != count {
            return Err(format!(
                "config.json says {count} layers {kind}, the file holds {}; {}",
                found.len(),
                mismatch(layers)
            ));
        }
        let moved: Vec<_> = found
            .iter()
            .filter_map(|(_, name)| layers.remove(name))
            .collect();
        for (place, layer) in moved.into_iter().enumerate() {
            let name = if place == 0 {
                kind.to_owned()
            } else {
                format!("{kind}_{place}")
            };
            layers.insert(name, layer);
        }
    }
    Ok(())
}

/// What a file holds, for a message.
fn mismatch(layers: &Layers<'_>) -> String {
    let names: BTreeSet<String> = layers.keys().cloned().collect();
    format!(
        "is this the weights file of another architecture? It has {}",
        listed(&names)
    )
}

/// Up to six names, and how many more there are.
fn listed(names: &BTreeSet<String>) -> String {
    let mut text = names.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    if names.is_empty() {
        text.push_str("no layer");
    } else if names.len() > 6 {
        text.push_str(&format!(" and {} more", names.len() - 6));
    }
    text
}
