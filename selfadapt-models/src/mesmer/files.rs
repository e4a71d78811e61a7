//! Mesmer's ONNX files: recognised, opened, and written back for any ONNX runtime.

use std::any::Any;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use candle_core::{Device, Tensor};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;

use super::{MesmerConfig, SKELETON, names};
use crate::format::{Candidate, Contents, ModelFormat, Recognition};
use crate::weights::{Layout, onnx};

/// Bytes beyond which a file is refused: the most that a protocol buffer can have.
const MOST_BYTES: u64 = 1 << 31;

inventory::submit! {
    ModelFormat {
        name: "mesmer",
        files: "Mesmer's network as an ONNX file",
        recognises,
        open,
        save: Some(save),
    }
}

fn recognises(candidate: &Candidate) -> Recognition {
    match &candidate.contents {
        Contents::Other(head) if onnx::looks_like(head) => Recognition::Known,
        Contents::Folder(names) if names.iter().any(|name| name == "saved_model.pb") => {
            Recognition::Refused(
                "a TensorFlow SavedModel: convert it with `python -m tf2onnx.convert --saved-model FOLDER --output \
                 mesmer.onnx --opset 15`, and give the ONNX file"
                    .to_owned(),
            )
        }
        _ => Recognition::Foreign,
    }
}

fn open(candidate: &Candidate) -> Result<(Box<dyn ModelConfig>, ParamSet)> {
    let path = &candidate.path;
    let failed = |reason: &dyn std::fmt::Display| Error::read(path, reason);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    let read = file.take(MOST_BYTES + 1).read_to_end(&mut bytes);
    let length = read.map_err(|error| failed(&error))?;
    if length as u64 > MOST_BYTES {
        return Err(failed(&format!(
            "more than {MOST_BYTES} bytes, which no ONNX file has"
        )));
    }
    let (config, tensors) = parse(&bytes).map_err(|reason| failed(&reason))?;
    let params = ParamSet::new(tensors, MesmerConfig::role)?;
    Ok((Box::new(config), params))
}

/// Settings and parameters of a file, the file itself without its weights among them.
fn parse(bytes: &[u8]) -> std::result::Result<(MesmerConfig, Vec<(String, Tensor)>), String> {
    let whole = |reason| format!("not a whole ONNX file: {reason}");
    let graph = onnx::Graph::parse(bytes).map_err(whole)?;
    let (config, mut tensors) = names::import(&graph)
        .map_err(|reason| format!("an ONNX file, and not Mesmer's network: {reason}"))?;
    let names = names::names(&graph, &config)?;
    let ours: std::collections::BTreeSet<&String> = names.values().collect();
    let skeleton = onnx::skeleton(bytes, |name| ours.iter().any(|known| *known == name));
    let skeleton = skeleton.map_err(whole)?;
    let length = skeleton.len();
    let skeleton = Tensor::from_vec(skeleton, length, &Device::Cpu);
    tensors.push((
        SKELETON.to_owned(),
        skeleton.map_err(|error| error.to_string())?,
    ));
    Ok((config, tensors))
}

/// Writes the ONNX file that the model came from, with the weights as they are now.
fn save(path: &Path, config: &dyn ModelConfig, params: &ParamSet, _: &Layout) -> Result<()> {
    let config: &dyn Any = config;
    let failed = |reason: &dyn std::fmt::Display| Error::write(path, reason);
    let config = config.downcast_ref::<MesmerConfig>().ok_or_else(|| {
        Error::Setting("only a Mesmer model can be written as Mesmer's ONNX file".into())
    })?;
    let skeleton = params.get(SKELETON).ok_or_else(|| {
        failed(
            &"these weights come without the ONNX file of their network; name a file that ends in .safetensors",
        )
    })?;
    let skeleton = skeleton.as_detached_tensor().to_device(&Device::Cpu)?;
    let skeleton = skeleton.to_vec1::<u8>()?;
    let graph = onnx::Graph::parse(&skeleton).map_err(|reason| failed(&reason))?;
    let names = names::names(&graph, config).map_err(|reason| failed(&reason))?;
    let ours: std::collections::BTreeMap<&str, &str> = names
        .iter()
        .map(|(ours, theirs)| (theirs.as_str(), ours.as_str()))
        .collect();
    if let Some(missing) = ours.values().find(|name| params.get(name).is_none()) {
        return Err(Error::Weights(format!("{missing} is missing")));
    }
    let tensor = |name: &str| Some(params.get(ours.get(name)?)?.as_detached_tensor());
    let bytes = onnx::filled(&skeleton, tensor).map_err(|reason| failed(&reason))?;
    atomic::write_bytes(path, &bytes)
}
