//! Everything that a training is made from, as one file that can be run again: config.toml.

use std::path::{Path, PathBuf};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::Axes;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::random_weights::random_weights;
use selfadapt_core::supervise::config::TrainConfig;
use selfadapt_models::format::{self, Loaded, Provenance};
use selfadapt_models::weights::Layout;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Args;
use crate::adapt::settings::lay_over;
use crate::device::DeviceChoice;
use crate::failure::Failure;
use crate::models::find;
use crate::segment::settings;

/// A complete training.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRun {
    /// The model that it starts from: a file or folder, or a kind of model where its weights are drawn.
    pub weights: PathBuf,
    /// Whether weights are drawn by the seed instead.
    pub from_scratch: bool,
    /// Labelled images: files, folders or patterns.
    pub inputs: Vec<PathBuf>,
    /// What a label file's stem has beyond its image's.
    pub mask_filter: String,
    /// Epochs between checkpoints.
    pub save_every: usize,
    /// Checkpoints that stay on disk.
    pub snapshots: usize,
    /// What networks compute on: auto, cpu, cpu:bf16, cuda:N, cuda:N:tf32 or cuda:N:bf16.
    #[serde(default)]
    pub device: DeviceChoice,
    /// What to take from images of more than one plane: `channel_axis`, `plane`.
    #[serde(default)]
    pub axes: Axes,
    /// Settings of the epochs.
    pub train: TrainConfig,
    /// The model's own settings.
    pub model: Box<dyn ModelConfig>,
}

impl TrainRun {
    /// The settings as text, complete.
    ///
    /// # Errors
    /// If a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Setting(format!("config.toml: {e}")))
    }

    /// Reads what [`TrainRun::to_toml`] wrote.
    ///
    /// # Errors
    /// If there is none, or it is damaged or another command's.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
        toml::from_str(&text).map_err(|e| Error::read(path, e))
    }

    /// The model that training starts from.
    ///
    /// # Errors
    /// If it cannot be opened or, drawn, not be built.
    pub fn open(&self) -> Result<Loaded> {
        if !self.from_scratch {
            return format::open(&self.weights);
        }
        Ok(Loaded {
            params: random_weights(self.model.as_ref(), self.train.seed)?,
            config: self.model.boxed(),
            provenance: Provenance {
                format: self.model.typetag_name().to_owned(),
                path: self.weights.clone(),
                sha256: String::new(),
                bytes: 0,
                layout: Layout::default(),
            },
        })
    }
}

/// Settings of a new training: the command line wins over the file, and that over the defaults.
///
/// # Errors
/// If something is missing, contradictory, or does not fit the model.
pub fn resolve(args: &Args) -> Result<TrainRun, Failure> {
    let over: Option<toml::Table> = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
            Some(
                text.parse::<toml::Table>()
                    .map_err(|e| Error::read(path, e))?,
            )
        }
        None => None,
    };
    let of_file = |key: &str| over.as_ref().and_then(|table| table.get(key));
    let from_scratch = args.from_scratch
        || of_file("from_scratch").is_some_and(|value| value.as_bool() == Some(true));
    let named = args.model.clone().or_else(|| {
        let weights = of_file("weights")?.as_str()?;
        Some(weights.to_owned())
    });
    let named = named.ok_or_else(|| {
        Failure::new(
            "expected --model, found none",
            "give a pretrained model, or a kind of model with --from-scratch: --from-scratch --model cellpose",
        )
    })?;
    let (weights, model) = if from_scratch {
        drawn(&named)?
    } else {
        let path = find::path(&named)?;
        let loaded = format::open(&path).map_err(Failure::model)?;
        let path = std::path::absolute(&path).map_err(|e| Error::read(&path, e))?;
        (path, loaded.config)
    };
    // Before the defaults are asked for, which follow from it; the file, which is laid over them, does not win over these.
    let model = with_flags(args, model)?;
    let mut run = TrainRun {
        weights,
        from_scratch,
        inputs: args.inputs.clone(),
        mask_filter: "_masks".into(),
        save_every: 10,
        snapshots: 12,
        device: DeviceChoice::Auto,
        axes: Axes::default(),
        train: model.supervision()?.defaults(from_scratch),
        model,
    };
    if let (Some(path), Some(over)) = (&args.config, over) {
        let mut all = toml::Table::try_from(&run).map_err(|e| Error::Setting(e.to_string()))?;
        lay_over(&mut all, over);
        run = all.try_into().map_err(|e| Error::read(path, e))?;
    }
    apply(args, &mut run)?;
    run.inputs = run
        .inputs
        .iter()
        .map(|path| std::path::absolute(path).map_err(|e| Error::read(path, e)))
        .collect::<Result<_>>()?;
    run.train.check(run.model.as_ref())?;
    Ok(run)
}

/// The settings of a model whose weights are to be drawn: a registered kind with its defaults, or those of a file.
fn drawn(named: &str) -> Result<(PathBuf, Box<dyn ModelConfig>), Failure> {
    if format::formats().iter().any(|format| format.name == named) {
        let model = serde_json::from_value(serde_json::json!({ "model": named }));
        let model = model.map_err(|reason| Error::Setting(format!("{named}: {reason}")))?;
        return Ok((PathBuf::from(named), model));
    }
    let path = find::path(named)?;
    let loaded = format::open(&path).map_err(Failure::model)?;
    let path = std::path::absolute(&path).map_err(|e| Error::read(&path, e))?;
    Ok((path, loaded.config))
}

fn apply(args: &Args, run: &mut TrainRun) -> Result<(), Failure> {
    run.device = args.flag.device.unwrap_or(run.device);
    run.axes = args.axes.over(run.axes);
    let train = &mut run.train;
    let numbers = [
        (&mut train.epochs, args.epochs),
        (&mut train.batch, args.batch),
        (&mut train.crop, args.crop),
        (&mut train.crops_per_epoch, args.crops_per_epoch),
        (&mut train.min_objects, args.min_objects),
        (&mut run.save_every, args.save_every),
    ];
    for (setting, given) in numbers {
        *setting = given.unwrap_or(*setting);
    }
    train.seed = args.seed.unwrap_or(train.seed);
    train.learning_rate = args.learning_rate.unwrap_or(train.learning_rate);
    train.weight_decay = args.weight_decay.unwrap_or(train.weight_decay);
    train.optimiser = args.optimiser.map_or(train.optimiser, Into::into);
    if let Some(filter) = &args.mask_filter {
        run.mask_filter.clone_from(filter);
    }
    if !args.inputs.is_empty() {
        run.inputs.clone_from(&args.inputs);
    }
    run.model = with_flags(args, run.model.boxed())?;
    Ok(())
}

/// A model with the settings that the command line names.
fn with_flags(args: &Args, model: Box<dyn ModelConfig>) -> Result<Box<dyn ModelConfig>, Failure> {
    let channels = args
        .channels
        .clone()
        .map(|value: Value| ("channels".to_owned(), value));
    let changes: Vec<_> = channels
        .into_iter()
        .chain(args.set.iter().cloned())
        .collect();
    if changes.is_empty() {
        return Ok(model);
    }
    settings::with(model.as_ref(), &changes)
}
