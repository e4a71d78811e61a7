//! `selfadapt train`: labelled images and a model (or none) go in, a model that was taught by them comes out.

mod pairs;
mod record;
mod settings;

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io;
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::supervise::config::Optimiser;
use selfadapt_core::supervise::train::TrainLoop;
use selfadapt_core::supervise::{Example, Supervision};
use selfadapt_models::run_folder;
use serde_json::Value;

use crate::adapt::folder::RunFolder;
use crate::adapt::interrupt;
use crate::axes::AxesFlags;
use crate::console;
use crate::device::DeviceFlag;
use crate::failure::{Failure, Outcome};
use crate::inputs::{Fingerprint, RunInputs};
use pairs::Pair;
use record::{Line, Manifest};
use settings::TrainRun;

/// Train a model on labelled images.
///
/// The labels of a.tif are a_masks.tif (or .png, .npy) beside it, or what --mask-filter says. Cellpose
/// models learn as Cellpose 3 teaches them, StarDist models as StarDist 0.9 does. RUN/trained is a file or
/// folder that the model's own package opens. Defaults that depend on the model are in docs/training.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt train --model cyto.pt --out run labelled/
  selfadapt train --from-scratch --model cellpose --set 'nbase=[2,16,32,64]' --out run labelled/
  selfadapt train --from-scratch --model stardist --set n_rays=64 --crop 128 --out run labelled/
  selfadapt segment --model run --out masks images/")]
pub struct Args {
    /// Labelled images: files, folders, or patterns
    #[arg(required_unless_present_any = ["resume", "config"])]
    inputs: Vec<PathBuf>,
    /// Model to start from: a file, a run folder, or a name; with --from-scratch also a kind of model
    #[arg(long, value_name = "PATH_OR_NAME", required_unless_present_any = ["resume", "config"])]
    model: Option<String>,
    /// Folder for everything that the run writes
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
    out: Option<PathBuf>,
    /// Go on with an interrupted training, to the same weights that it would have reached
    #[arg(long, value_name = "RUN", conflicts_with_all = ["inputs", "model", "out", "config"])]
    resume: Option<PathBuf>,
    /// Draw the weights by the seed instead of taking the model's
    #[arg(long)]
    from_scratch: bool,
    /// A config.toml, whole or in part, laid over the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What the stems of label files have beyond their images' [default: _masks]
    #[arg(long, alias = "mask_filter", value_name = "END")]
    mask_filter: Option<String>,
    /// Leave out images without labels, and labels without images
    #[arg(long)]
    skip_unpaired: bool,
    /// Channels to segment, as the model numbers them (Cellpose: 0 gray, 1 red, 2 green, 3 blue)
    #[arg(long, value_name = "CHAN,CHAN2", value_parser = crate::segment::settings::numbers)]
    channels: Option<Value>,
    /// Any other setting of the model, as `selfadapt models info` lists them
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::segment::settings::parse)]
    set: Vec<(String, Value)>,
    /// Epochs [default: 100; from scratch 500 (Cellpose), 400 (StarDist)]
    #[arg(long, alias = "n_epochs")]
    epochs: Option<usize>,
    /// Crops in a step [default: 8 (Cellpose), 4 (StarDist)]
    #[arg(long, alias = "batch_size")]
    batch: Option<usize>,
    /// Side of a crop, in pixels of the working scale [default: the model's]
    #[arg(long, value_name = "PIXELS")]
    crop: Option<usize>,
    /// Crops in an epoch; 0 takes one of every image [default: 0; StarDist from scratch 100]
    #[arg(long, alias = "nimg_per_epoch", value_name = "N")]
    crops_per_epoch: Option<usize>,
    /// What moves the weights [default: sgd (Cellpose's fine-tuning), adamw (others)]
    #[arg(long, value_enum)]
    optimiser: Option<OptimiserWish>,
    /// Highest learning rate [default: the model's]
    #[arg(long, alias = "learning_rate", value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Weight decay [default: the model's]
    #[arg(long, alias = "weight_decay", value_name = "DECAY")]
    weight_decay: Option<f64>,
    /// Leave out images with fewer objects [default: 5 (Cellpose), 1 (StarDist)]
    #[arg(long, alias = "min_train_masks", value_name = "N")]
    min_objects: Option<usize>,
    /// Epochs between checkpoints [default: 10]
    #[arg(long, alias = "save_every", value_name = "N")]
    save_every: Option<usize>,
    /// Seed of order, augmentation and drawn weights
    #[arg(long)]
    seed: Option<u64>,
    #[command(flatten)]
    flag: DeviceFlag,
    #[command(flatten)]
    axes: AxesFlags,
    /// Print the manifest as JSON and nothing else
    #[arg(long)]
    json: bool,
}

/// The optimiser as a person asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OptimiserWish {
    /// AdamW
    #[value(name = "adamw")]
    AdamW,
    /// Stochastic gradient descent with momentum
    Sgd,
}

impl From<OptimiserWish> for Optimiser {
    fn from(wish: OptimiserWish) -> Self {
        match wish {
            OptimiserWish::AdamW => Self::AdamW,
            OptimiserWish::Sgd => Self::Sgd,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// If the training cannot begin, an epoch or a file fails.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let (root, mut run) = match (&args.resume, &args.out) {
        (Some(root), _) => (root, TrainRun::read(&root.join("config.toml"))?),
        (None, Some(root)) => (root, begin(&args, root)?),
        (None, None) => {
            let message = "expected --out DIR for a new run, or --resume RUN";
            return Err(Error::Setting(message.into()).into());
        }
    };
    let loaded = run.open().map_err(Failure::model)?;
    run.device = args.flag.device.unwrap_or(run.device);
    let placed = run.device.place(run.model.as_ref())?;
    run.model = placed.model;
    let supervision = run.model.supervision()?;
    let (pairs, mut notes) = pairs::find(&run.inputs, &run.mask_filter, args.skip_unpaired)?;
    let (pairs, examples) = read(&run, supervision.as_ref(), pairs, &mut notes)?;
    let files = pairs.iter().flat_map(|pair| [&pair.image, &pair.labels]);
    let inputs = RunInputs::of(&files.cloned().collect::<Vec<_>>(), notes.clone())?;
    if let Some(root) = &args.resume {
        inputs.are_those_of(root)?;
    }
    let diameter = mean(examples.iter().filter_map(Example::diameter));
    if let Some(diameter) = diameter {
        run.model = run.model.sized(Sizing::Diameter(diameter))?;
        tracing::info!("mean diameter of the labelled objects: {diameter:.1} pixels");
    }
    let mut training = TrainLoop::new(run.model.as_ref(), &loaded.params, run.train)?;

    // Only now is it a run: what was refused so far leaves nothing that would be taken for one.
    let folder = RunFolder::open(root)?;
    let weights = &loaded.provenance.sha256;
    let (mut loss, resumed) = match &args.resume {
        Some(_) => match record::load(root, weights)? {
            Some((state, loss)) => {
                training.restore(&state)?;
                (loss, state.epoch)
            }
            None => (f64::NAN, 0),
        },
        None => {
            inputs.write(root)?;
            folder.write_text("config.toml", &run.to_toml()?)?;
            (f64::NAN, 0)
        }
    };
    let path = folder.file("run.jsonl");
    let mut lines = record::reopen(&path, resumed)?;
    let bar = console::bar(run.train.epochs, "training");
    let stop = interrupt::watch()?;
    while training.epochs_done() < run.train.epochs && !stop.is_set() {
        let report = training.epoch(&examples)?;
        loss = report.loss;
        bar.set_position(report.epoch as u64);
        bar.set_message(format!("loss {loss:.4}"));
        let (epoch, last) = (report.epoch, report.epoch == run.train.epochs);
        record::push(&mut lines, &path, &Line::Epoch(report))?;
        if last || stop.is_set() || epoch.is_multiple_of(run.save_every.max(1)) {
            tracing::info!("epoch {epoch}: loss {loss:.4}");
            folder.keep_snapshot(epoch, training.params())?;
            record::save(root, &training.state()?, loss, weights)?;
            folder.thin_snapshots(epoch, run.snapshots)?;
        }
    }
    bar.finish_and_clear();

    run_folder::write_as(
        run_folder::TRAINED_FILE,
        root,
        run.model.as_ref(),
        training.params(),
        &loaded.provenance.layout,
    )?;
    let manifest = Manifest {
        selfadapt: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        threads: rayon::current_num_threads(),
        device: placed.device,
        seed: run.train.seed,
        weights: (!run.from_scratch).then(|| Fingerprint {
            path: loaded.provenance.path.clone(),
            bytes: loaded.provenance.bytes,
            sha256: weights.clone(),
        }),
        inputs: inputs.files,
        objects: examples.iter().map(Example::objects).sum(),
        diameter,
        notes,
        epochs: training.epochs_done(),
        loss,
        interrupted: training.epochs_done() < run.train.epochs,
        seconds: began.elapsed().as_secs_f64(),
    };
    manifest.write(root)?;
    tell(&manifest, &args, &folder)?;
    Ok(Outcome::Fine)
}

/// Settings of a new run in an unused folder.
fn begin(args: &Args, root: &std::path::Path) -> Result<TrainRun, Failure> {
    if root.join("config.toml").exists() {
        return Err(Failure::state(
            format!("{}: there is a run in this folder already", root.display()),
            "go on with --resume, or choose another --out",
        ));
    }
    settings::resolve(args)
}

/// Reads and prepares the pairs; those with too few objects are left out and noted.
fn read(
    run: &TrainRun,
    supervision: &dyn Supervision,
    pairs: Vec<Pair>,
    notes: &mut Vec<String>,
) -> Result<(Vec<Pair>, Vec<Example>), Failure> {
    let model: &dyn ModelConfig = run.model.as_ref();
    let bar = console::bar(pairs.len(), "reading");
    let (mut kept, mut examples) = (Vec::new(), Vec::new());
    let (count, least) = (pairs.len(), run.train.min_objects);
    for pair in pairs {
        let labels = io::read_labels(&pair.labels)?;
        bar.inc(1);
        if labels.count() < least {
            let (file, found) = (pair.labels.display(), labels.count());
            notes.push(format!(
                "left out: {file} has {found} objects, fewer than {least}"
            ));
            continue;
        }
        let (image, _) = io::read(&pair.image, &run.axes)?;
        let example = Example::new(model, supervision, &image, &labels)
            .map_err(|reason| Error::read(&pair.labels, reason))?;
        kept.push(pair);
        examples.push(example);
    }
    bar.finish_and_clear();
    if examples.is_empty() {
        return Err(Failure::new(
            format!("none of {count} label images has {least} objects or more"),
            "look whether these are label images (0 outside, 1, 2, 3, ... in the objects); --min-objects lowers the bound",
        ));
    }
    for note in notes.iter() {
        tracing::warn!("{note}");
    }
    Ok((kept, examples))
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// What came of it, for people or for machines.
fn tell(manifest: &Manifest, args: &Args, folder: &RunFolder) -> Result<()> {
    if args.json {
        let json = serde_json::to_string(manifest).map_err(|e| Error::Setting(e.to_string()))?;
        println!("{json}");
        return Ok(());
    }
    let ended = if manifest.interrupted {
        "stopped"
    } else {
        "trained"
    };
    println!(
        "{ended}: {} epochs on {} images with {} objects, loss {:.4}, {:.0} s",
        manifest.epochs,
        manifest.inputs.len() / 2,
        manifest.objects,
        manifest.loss,
        manifest.seconds
    );
    println!(
        "use it with: selfadapt segment --model {} --out masks IMAGES",
        folder.root().display()
    );
    Ok(())
}
