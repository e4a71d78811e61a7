//! From arguments to a run: folder, complete settings, weights, images.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use selfadapt_core::adapt::LoopState;
use selfadapt_core::adapt::config::BatchNorm;
use selfadapt_core::choice::Choice;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::{self, Axes};
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::objective::L2sp;
use selfadapt_core::outlines::Outlines;
use selfadapt_core::params::Lend;
use selfadapt_models::format::{self, Loaded};

use super::Args;
use super::crop;
use super::folder::RunFolder;
use super::settings::{Preset, RunConfig};
use super::truth::Truth;
use crate::device::DeviceChoice;
use crate::failure::Failure;
use crate::inputs::RunInputs;
use crate::models::find;
use crate::segment::settings;

/// The student's batch norm as a person asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeWish {
    /// Try frozen and clean for some steps each, then go on with the better one or keep the model.
    Auto,
    /// Keep the pretrained statistics.
    Frozen,
    /// Learn with the statistics of the batch; the model's own follow the new images.
    Clean,
    /// Learn with the model's own statistics while they follow the new images.
    Blend,
    /// As clean, but following the degraded crops that it learns from, as PyTorch's training mode would.
    Train,
}

/// All that a run needs before its first step.
pub struct Resolved {
    /// The locked run folder.
    pub folder: RunFolder,
    /// Complete settings.
    pub config: RunConfig,
    /// The pretrained model.
    pub loaded: Loaded,
    /// What the networks compute on.
    pub device: String,
    /// Images to adapt to.
    pub images: Vec<PathBuf>,
    /// What was left out of them, and why, a sentence each.
    pub left_out: Vec<String>,
    /// What a run that goes on began with: these images.
    pub begun: Option<RunInputs>,
    /// Where an interrupted run stood, and its last accepted step.
    pub resumed: Option<(LoopState, usize)>,
    /// Labels to score against.
    pub truth: Option<Truth>,
}

/// Resolves arguments.
///
/// # Errors
/// If anything is missing, contradictory, or does not fit the model.
pub fn resolve(args: &Args) -> Result<Resolved, Failure> {
    let (folder, mut config, loaded, resumed) = match (&args.resume, &args.out) {
        (Some(root), _) => resume(root)?,
        (None, Some(root)) => begin(args, root)?,
        (None, None) => {
            return Err(
                Error::Setting("expected --out DIR for a new run, or --resume RUN".into()).into(),
            );
        }
    };
    let begun = match &args.resume {
        Some(root) => Some(RunInputs::read(root)?),
        None => None,
    };
    let (images, left_out) = if let Some(begun) = &begun {
        begun.unchanged()?;
        (begun.paths(), begun.left_out.clone())
    } else {
        let found = io::inputs(&config.inputs, &[])?;
        let refused = found.refused.iter();
        let left_out = refused.map(|reason| format!("left out: {reason}"));
        (found.images, left_out.collect())
    };
    let scale = config.model.working_scale(config.sizing)?;
    let truth = args
        .truth
        .as_ref()
        .map(|labels| Truth::open(labels, &images, &config, scale))
        .transpose()?;
    // A run that goes on may do so elsewhere.
    config.device = args.flag.device.unwrap_or(config.device);
    let placed = config.device.place(config.model.as_ref())?;
    config.model = placed.model;
    Ok(Resolved {
        folder,
        config,
        loaded,
        device: placed.device,
        images,
        left_out,
        begun,
        resumed,
        truth,
    })
}

type Begun = (RunFolder, RunConfig, Loaded, Option<(LoopState, usize)>);

fn resume(root: &Path) -> Result<Begun> {
    let path = root.join("config.toml");
    if !path.is_file() {
        return Err(Error::read(
            root,
            "expected a run folder with a config.toml; start a new run with --out",
        ));
    }
    let folder = RunFolder::open(root)?;
    let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
    let config: RunConfig = toml::from_str(&text).map_err(|e| Error::read(&path, e))?;
    let loaded = format::open(&config.weights)?;
    let state = folder.load_state(&loaded.provenance)?;
    Ok((folder, config, loaded, state))
}

fn begin(args: &Args, root: &Path) -> Result<Begun, Failure> {
    let (config, loaded) = settle(args)?;
    let folder = RunFolder::open(root)?;
    Ok((folder, config, loaded, None))
}

/// Complete settings and the model of a new run. Writes nothing.
///
/// # Errors
/// As [`resolve`].
pub fn settle(args: &Args) -> Result<(RunConfig, Loaded), Failure> {
    if let Some(root) = args
        .out
        .as_ref()
        .filter(|root| root.join("config.toml").exists())
    {
        return Err(Failure::state(
            format!("{}: there is a run in this folder already", root.display()),
            "go on with --resume, or choose another --out",
        ));
    }
    let over = args.config.as_deref().map(partial).transpose()?;
    // The command line wins over the file.
    let of_file = || Some(PathBuf::from(over.as_ref()?.get("weights")?.as_str()?));
    let weights = match &args.model {
        Some(model) => find::path(model)?,
        None => of_file().ok_or_else(|| {
            Error::Setting("expected --model PATH_OR_NAME, or `weights` in the config file".into())
        })?,
    };
    let loaded = format::open(&weights).map_err(Failure::model)?;
    let of_adapt = over.as_ref().and_then(|over| over.get("adapt"));
    let of_outlines = of_adapt.and_then(|adapt| adapt.get("outlines"));
    let fits = args.fit_outlines
        || of_outlines.and_then(|outlines| outlines.get("fit")?.as_bool()) == Some(true);
    let mut config = RunConfig {
        weights: weights.clone(),
        inputs: args.inputs.clone(),
        sizing: Sizing::Native,
        snapshots: 24,
        cache_mib: 512,
        device: DeviceChoice::Auto,
        axes: Axes::default(),
        adapt: args.preset.adapt(),
        choice: suited(args.preset.choice(), loaded.config.as_ref()),
        watch: args.preset.watch(fits),
        model: loaded.config.boxed(),
    };
    config.adapt.perturb = loaded.config.perturb();
    config.adapt.learning_rate = loaded.config.learning_rate(config.adapt.learning_rate);
    let says_crop = of_adapt.is_some_and(|adapt| adapt.get("crop").is_some());
    if let (Some(path), Some(over)) = (&args.config, over) {
        config = config.overlaid(over).map_err(|e| Error::read(path, e))?;
    }
    apply(args, &mut config)?;
    config.choice.distinct(&loaded.params);
    if !args.inputs.is_empty() {
        config.inputs.clone_from(&args.inputs);
    }
    // A run is continued from wherever its user stands then.
    config.weights = absolute(&weights)?;
    config.inputs = config
        .inputs
        .iter()
        .map(|path| absolute(path))
        .collect::<Result<_>>()?;
    config.sizing = sizing(args, &config, &loaded)?;
    config.model = config.model.sized(config.sizing)?;
    // Refuse what cannot work before the folder is touched.
    let images = io::inputs(&config.inputs, &[])?.images;
    let scale = config.model.working_scale(config.sizing)?;
    if !says_crop {
        config.adapt.crop = crop::side(config.model.as_ref(), scale, &images, &config.axes);
    }
    config.adapt.check(config.model.as_ref())?;
    if config.adapt.outlines.fit {
        let model = config.model.as_ref();
        let network = Network::new(model, loaded.params.clone(), Lend::Detached)?;
        config.adapt.outlines.suit(model, network.model.as_ref())?;
    }
    Ok((config, loaded))
}

/// With learning rates that suit the model.
fn suited(mut choice: Choice, model: &dyn ModelConfig) -> Choice {
    for mode in &mut choice.modes {
        mode.learning_rate = model.learning_rate(mode.learning_rate);
    }
    choice
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::read(path, e))
}

fn partial(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    text.parse().map_err(|e| Error::read(path, e))
}

/// Flags win over the config file, which wins over the preset.
fn apply(args: &Args, config: &mut RunConfig) -> Result<(), Failure> {
    config.device = args.flag.device.unwrap_or(config.device);
    config.axes = args.axes.over(config.axes);
    let adapt = &mut config.adapt;
    if let Some(steps) = args.steps {
        adapt.steps = steps;
    }
    if let Some(seed) = args.seed {
        adapt.seed = seed;
    }
    let fixed = match args.mode {
        None | Some(ModeWish::Auto) => None,
        Some(ModeWish::Frozen) => Some(BatchNorm::Frozen),
        Some(ModeWish::Clean) => Some(BatchNorm::Clean),
        Some(ModeWish::Blend) => Some(BatchNorm::Blend),
        Some(ModeWish::Train) => Some(BatchNorm::Train),
    };
    if let Some(batch_norm) = fixed {
        adapt.batch_norm = batch_norm;
        config.choice.modes.clear();
    } else if args.mode == Some(ModeWish::Auto) && config.choice.modes.is_empty() {
        config.choice = suited(Preset::Quick.choice(), config.model.as_ref());
    }
    adapt.gate.enabled &= !args.no_filter;
    adapt.perturb.enabled &= !args.no_strong;
    if args.fit_outlines {
        let most = adapt.outlines.most;
        adapt.outlines.fit = true;
        // A preset that does not look at outlines has them fitted all the same.
        adapt.outlines.most = if most > 0. {
            most
        } else {
            Outlines::default().most
        };
    }
    if args.no_tta {
        adapt.views = 1;
    }
    if args.no_l2sp {
        adapt.objective.l2sp = L2sp::Off;
    }
    config.watch.stop &= !args.no_stop;
    if let Some(channels) = &args.channels {
        let change = ("channels".to_owned(), channels.clone());
        config.model = settings::with(config.model.as_ref(), &[change])?;
    }
    config.model = settings::with(config.model.as_ref(), &args.set)?;
    Ok(())
}

fn sizing(args: &Args, config: &RunConfig, loaded: &Loaded) -> Result<Sizing> {
    let estimate = || {
        let images = io::inputs(&config.inputs, &[])?.images;
        super::scale::estimate(config.model.as_ref(), &loaded.params, &images, &config.axes)
    };
    if let Some(micrometres) = args.pixel_size {
        return Ok(Sizing::PixelSize(micrometres));
    }
    match args.diameter.as_deref() {
        Some("auto") => estimate(),
        Some(text) => match text.parse::<f64>() {
            Ok(diameter) if diameter > 0. && diameter.is_finite() => Ok(Sizing::Diameter(diameter)),
            _ => Err(Error::Setting(format!(
                "--diameter: expected a number of pixels or auto, found {text}"
            ))),
        },
        None if config.sizing != Sizing::Native => Ok(config.sizing),
        None if let Some(size) = config.model.size_model(&config.weights)? => {
            let images = io::inputs(&config.inputs, &[])?.images;
            super::scale::by_size_model(
                size.as_ref(),
                config.model.as_ref(),
                &loaded.params,
                &images,
                &config.axes,
            )
        }
        None => match config.model.working_scale(Sizing::Native) {
            Ok(_) => Ok(Sizing::Native),
            Err(missing) if config.model.working_scale(Sizing::Diameter(1.)).is_err() => {
                Err(missing)
            }
            Err(_) => estimate(),
        },
    }
}

/// Parses 90s, 5m, 2h or plain seconds.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let wrong = || format!("expected a time such as 90s, 5m or 2h, found {text}");
    let (number, unit) = match text.find(|c: char| c.is_ascii_alphabetic()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1.,
        "m" => 60.,
        "h" => 3600.,
        _ => return Err(wrong()),
    };
    let seconds = number.trim().parse::<f64>().map_err(|_| wrong())? * factor;
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(duration("45"), Ok(Duration::from_secs(45)));
        for wrong in ["", "5d", "-3s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
