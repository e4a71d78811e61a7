//! The folder in which an adaptation or a training leaves its model: configuration and weights, ours and the model's own.
//!
//! ```text
//! RUN/model.json              the model's configuration
//! RUN/delivered.safetensors   the delivered weights, read back by us
//! RUN/adapted or RUN/trained  the same in the model's own format, for its own package (where there is a writer)
//! ```

use std::path::Path;

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;

use crate::format::{self, Contents, Loaded};
use crate::weights::{Layout, Weights, safetensors};

/// The configuration, as JSON.
pub const CONFIG_FILE: &str = "model.json";
/// The delivered weights.
pub const WEIGHTS_FILE: &str = "delivered.safetensors";
/// The delivered weights in the model's own format, after an adaptation.
pub const NATIVE_FILE: &str = "adapted";
/// The delivered weights in the model's own format, after a training from labels.
pub const TRAINED_FILE: &str = "trained";

/// Writes an adapted model into an existing folder: weights first, `model.json`, which makes it a run folder, last.
///
/// # Errors
/// If a file cannot be written; files of an earlier model may then be replaced in part.
pub fn write(
    folder: impl AsRef<Path>,
    config: &dyn ModelConfig,
    params: &ParamSet,
    layout: &Layout,
) -> Result<()> {
    write_as(NATIVE_FILE, folder, config, params, layout)
}

/// [`write()`] with another name for the file in the model's own format.
///
/// # Errors
/// If a file cannot be written; files of an earlier model may then be replaced in part.
pub fn write_as(
    native: &str,
    folder: impl AsRef<Path>,
    config: &dyn ModelConfig,
    params: &ParamSet,
    layout: &Layout,
) -> Result<()> {
    let folder = folder.as_ref();
    write_safetensors(folder.join(WEIGHTS_FILE), config, params, layout)?;
    if let Some(save) = format::named(config.typetag_name())?.save {
        save(&folder.join(native), config, params, layout)?;
    }
    let path = folder.join(CONFIG_FILE);
    let json = serde_json::to_vec_pretty(config).map_err(|error| Error::write(&path, error))?;
    atomic::write_bytes(path, &json)
}

/// Writes a model as one safetensors file that [`format::open`] opens: weights, with the configuration as
/// metadata.
///
/// # Errors
/// If the file cannot be written.
pub fn write_safetensors(
    path: impl AsRef<Path>,
    config: &dyn ModelConfig,
    params: &ParamSet,
    layout: &Layout,
) -> Result<()> {
    let path = path.as_ref();
    let json = serde_json::to_string(config).map_err(|error| Error::write(path, error))?;
    let mut weights = Weights::of_params(params, layout);
    weights.metadata.insert(format::CONFIG.to_owned(), json);
    safetensors::write(path, &weights)
}

/// Opens a run folder: the configuration of `model.json` with the weights of `delivered.safetensors`, or of
/// `adapted` or `trained` where only that is left.
///
/// # Errors
/// If one of the files is damaged, neither file of weights is there, or they do not fit the configuration.
pub fn open(folder: impl AsRef<Path>) -> Result<Loaded> {
    let folder = folder.as_ref();
    let json = folder.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&json).map_err(|error| Error::read(&json, error))?;
    let config: Box<dyn ModelConfig> =
        serde_json::from_str(&text).map_err(|error| Error::read(&json, error))?;
    let name = config.typetag_name();
    let weights = folder.join(WEIGHTS_FILE);
    if weights.is_file() {
        return format::loaded(&format::look(&weights)?, name, |candidate| {
            let Contents::Tensors(weights) = &candidate.contents else {
                return Err(Error::read(
                    &candidate.path,
                    "expected a safetensors file, found something else",
                ));
            };
            let params = ParamSet::new(weights.tensors.iter().cloned(), |name| config.role(name))?;
            Ok((config, params))
        });
    }
    let natives = [NATIVE_FILE, TRAINED_FILE].map(|name| folder.join(name));
    let Some(native) = natives.into_iter().find(|path| path.exists()) else {
        return Err(Error::read(
            folder,
            format!(
                "has {CONFIG_FILE}, and none of {WEIGHTS_FILE}, {NATIVE_FILE} and {TRAINED_FILE}: the run did not \
                 finish; resume it"
            ),
        ));
    };
    let format = format::named(name)?;
    format::loaded(&format::look(&native)?, name, |candidate| {
        let (_, params) = (format.open)(candidate)?;
        Ok((config, params))
    })
}
