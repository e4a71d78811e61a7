//! Cellpose's checkpoints: the configuration that they imply, and writing one that Cellpose opens.

use std::any::Any;
use std::path::Path;

use candle_core::{Device, Tensor};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;

use super::CellposeConfig;
use crate::format::{Candidate, Contents, ModelFormat, Recognition};
use crate::weights::{Layout, Weights, cellpose_keys, torch};

/// Built-in models for nuclei work at this diameter whatever their file says (`get_model_params`).
const NUCLEI: (&str, f64) = ("nucleitorch_0", 17.);

inventory::submit! {
    ModelFormat {
        name: "cellpose",
        files: "a Cellpose 1 to 3 checkpoint",
        recognises,
        open,
        save: Some(save),
    }
}

fn recognises(candidate: &Candidate) -> Recognition {
    match &candidate.contents {
        Contents::Tensors(weights) => cellpose_keys::recognise(weights.names()),
        _ => Recognition::Foreign,
    }
}

fn open(candidate: &Candidate) -> Result<(Box<dyn ModelConfig>, ParamSet)> {
    let Contents::Tensors(weights) = &candidate.contents else {
        return Err(Error::read(&candidate.path, "expected a file of tensors"));
    };
    let mut config = implied(weights).map_err(|error| Error::read(&candidate.path, error))?;
    let name = candidate.path.file_name().unwrap_or_default();
    if name.to_string_lossy().ends_with(NUCLEI.0) {
        config.diam_mean = NUCLEI.1;
    }
    let params = ParamSet::new(weights.tensors.iter().cloned(), CellposeConfig::role)?;
    Ok((Box::new(config), params))
}

/// The configuration that a checkpoint's shapes and diameters imply; the rest is the default.
fn implied(weights: &Weights) -> Result<CellposeConfig> {
    let kernel = |level: usize| {
        let name = format!("downsample.down.res_down_{level}.conv.conv_0.2.weight");
        weights.get(&name).map(|tensor| tensor.dims().to_vec())
    };
    let mut nbase = Vec::new();
    for level in 0.. {
        match kernel(level).as_deref() {
            Some(&[outputs, inputs, _, _]) => {
                if level == 0 {
                    nbase.push(inputs);
                }
                nbase.push(outputs);
            }
            Some(other) => {
                return Err(Error::Weights(format!(
                    "level {level}: expected a kernel [out, in, 3, 3], found {other:?}"
                )));
            }
            None => break,
        }
    }
    let usual = CellposeConfig::default();
    let config = CellposeConfig {
        nbase,
        diam_mean: diameter(weights, "diam_mean")?.unwrap_or(usual.diam_mean),
        diam_labels: diameter(weights, "diam_labels")?,
        ..usual
    };
    config.check()?;
    Ok(config)
}

/// A diameter in pixels, where the checkpoint has it.
fn diameter(weights: &Weights, name: &str) -> Result<Option<f64>> {
    let Some(tensor) = weights.get(name) else {
        return Ok(None);
    };
    match tensor.flatten_all()?.to_vec1::<f32>()?.as_slice() {
        &[pixels] if pixels.is_finite() && pixels > 0. => Ok(Some(f64::from(pixels))),
        other => Err(Error::Weights(format!(
            "{name}: expected one diameter in pixels, found {other:?}"
        ))),
    }
}

/// Writes a checkpoint with the configuration's diameters, which is where Cellpose looks for them.
fn save(path: &Path, config: &dyn ModelConfig, params: &ParamSet, layout: &Layout) -> Result<()> {
    let config: &dyn Any = config;
    let config = config.downcast_ref::<CellposeConfig>().ok_or_else(|| {
        Error::Setting("only a Cellpose model can be written as a Cellpose checkpoint".into())
    })?;
    let mut weights = Weights::of_params(params, layout);
    let diameters = [
        ("diam_mean", config.diam_mean),
        (
            "diam_labels",
            config.diam_labels.unwrap_or(config.diam_mean),
        ),
    ];
    for (name, pixels) in diameters {
        let tensor = Tensor::from_slice(&[pixels as f32], 1, &Device::Cpu)?;
        match weights.tensors.iter_mut().find(|(known, _)| known == name) {
            Some((_, value)) => *value = tensor,
            None => {
                weights.layout.order.push(name.to_owned());
                weights.tensors.push((name.to_owned(), tensor));
            }
        }
    }
    torch::write(path, &weights)
}
