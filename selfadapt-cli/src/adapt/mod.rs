//! `selfadapt adapt`: a folder of unlabelled images and a model go in, a model that fits them comes out.

mod choose;
mod crop;
pub mod curves;
pub mod deliver;
pub mod folder;
pub mod interrupt;
pub mod manifest;
mod observe;
mod outlines;
mod plan;
mod progress;
pub mod record;
#[cfg(test)]
mod reference;
pub mod resolve;
mod scale;
pub mod settings;
pub mod source;
mod thin;
mod truth;
mod verdict;
mod windows;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::run::{self, Workbench};
use selfadapt_core::source::Cached;

use crate::axes::AxesFlags;
use crate::device::DeviceFlag;
use crate::failure::{Failure, Outcome};
use crate::inputs::RunInputs;
use crate::report;
use choose::Start;
use observe::Observer;
use progress::Progress;
use record::Record;
use resolve::Resolved;
use settings::Preset;
use source::Files;

/// Adapt a pretrained model to unlabelled images.
///
/// Examples:
///   selfadapt adapt --model cyto_scellseg.pt --out run --diameter 26 images/
///   selfadapt adapt --resume run
///   selfadapt segment --model run --out masks images/
///   selfadapt adapt --plan --model cyto2 images/
///   selfadapt adapt --dir images --pretrained_model cyto2 --chan 2 --chan2 1 --diameter 30
///
/// Where the same thing is set twice, flags win over --config FILE, which wins over --preset.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Cellpose's own flags are understood: an existing command needs only its first word changed. What has no \
counterpart here is refused by name, never ignored. --diameter and --pretrained_model then default to \
Cellpose's 30 and cyto3, and the run goes to DIR/selfadapt unless --savedir names a folder."
)]
pub struct Args {
    /// Images to adapt to: files, folders, or patterns
    #[arg(required_unless_present_any = ["resume", "config"])]
    pub inputs: Vec<PathBuf>,
    /// Pretrained model: a file, the folder of an earlier run, or a name that `selfadapt models list` shows
    #[arg(long, value_name = "PATH_OR_NAME", required_unless_present_any = ["resume", "config"])]
    pub model: Option<String>,
    /// Folder for everything that the run writes
    #[arg(long, value_name = "DIR", required_unless_present_any = ["resume", "plan"])]
    pub out: Option<PathBuf>,
    /// Go on with an interrupted run, to the same weights that it would have reached
    #[arg(long, value_name = "RUN", conflicts_with_all = ["inputs", "model", "out", "config"])]
    pub resume: Option<PathBuf>,
    /// Length and strength to start from
    #[arg(long, value_enum, default_value = "quick")]
    pub preset: Preset,
    /// A config.toml, whole or in part, laid over the preset
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Mean cell diameter in pixels; without it the model's own, or an estimate
    #[arg(long, value_name = "PIXELS|auto", conflicts_with = "pixel_size")]
    pub diameter: Option<String>,
    /// Width of a pixel in micrometres, for models that work at a fixed resolution
    #[arg(long, value_name = "UM")]
    pub pixel_size: Option<f64>,
    /// Channels to segment, as the model numbers them (Cellpose: 0 gray, 1 red, 2 green, 3 blue)
    #[arg(long, value_name = "CHAN,CHAN2", value_parser = crate::segment::settings::numbers)]
    pub channels: Option<serde_json::Value>,
    /// Stop after this long at the latest: 90s, 5m, 2h
    #[arg(long, value_name = "TIME", value_parser = resolve::duration)]
    pub budget: Option<Duration>,
    /// Steps of the whole run
    #[arg(long)]
    pub steps: Option<usize>,
    /// Seed of crops, augmentation and validation
    #[arg(long)]
    pub seed: Option<u64>,
    /// How to adapt [default: auto, or the config file's]
    #[arg(long, value_enum)]
    pub mode: Option<resolve::ModeWish>,
    #[command(flatten)]
    pub flag: DeviceFlag,
    #[command(flatten)]
    pub axes: AxesFlags,
    /// Labels to score against along the run; the run never learns from them
    #[arg(long, value_name = "DIR")]
    pub truth: Option<PathBuf>,
    /// Go on to the last step whatever the criteria say
    #[arg(long)]
    pub no_stop: bool,
    /// Learn from every pixel (the paper's ablation)
    #[arg(long)]
    pub no_filter: bool,
    /// Label from a single view (the paper's ablation)
    #[arg(long)]
    pub no_tta: bool,
    /// No pull towards the pretrained weights (the paper's ablation)
    #[arg(long)]
    pub no_l2sp: bool,
    /// No strong augmentation (the paper's ablation)
    #[arg(long)]
    pub no_strong: bool,
    /// Learn from outlines drawn tighter, to where the images change most: for models that draw cells too wide
    #[arg(long)]
    pub fit_outlines: bool,
    /// Any other setting of the model, as `selfadapt models info` lists them
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::segment::settings::parse)]
    pub set: Vec<(String, serde_json::Value)>,
    /// Say what would be done, how long it would take and how much memory and disk, and write nothing
    #[arg(long, conflicts_with = "resume")]
    pub plan: bool,
    /// Print the manifest's last lines as JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// If the run cannot begin, or a step or a file fails.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    if args.plan {
        return plan::run(&args);
    }
    let began = Instant::now();
    let Resolved {
        folder,
        config,
        loaded,
        device,
        images,
        left_out,
        begun,
        resumed,
        truth,
    } = resolve::resolve(&args)?;
    let files = Files::new(images.clone(), &config, folder.root())?;
    let source = Cached::new(files, config.cache_mib << 20);
    let (watch, adapt) = (&config.watch, &config.adapt);
    let probe = config.probe(&source)?;
    let decoder = config.model.decoder_at(1.);

    let untouched = AdaptLoop::new(config.model.as_ref(), &loaded.params, adapt)?;
    let seen = match &resumed {
        Some(_) => None,
        None => outlines::look(&config, watch.delivered(&untouched), &probe)?,
    };
    let initial = probe.read(watch.delivered(&untouched), decoder.as_ref(), adapt.batch)?;
    let mut notes = left_out.clone();
    notes.extend(verdict::doubts(&initial));
    let bench = Workbench {
        source: &source,
        probe: &probe,
        decoder: decoder.as_ref(),
        initial: &initial,
    };

    // Only now is it a run: what was refused so far leaves nothing that would be taken for one.
    let inputs = match begun {
        Some(begun) => begun,
        None => {
            let inputs = RunInputs::of(&images, left_out)?;
            inputs.write(folder.root())?;
            inputs
        }
    };
    folder.write_text("config.toml", &config.to_toml()?)?;
    let path = folder.file("run.jsonl");
    let mut observer = Observer {
        folder: &folder,
        snapshots: config.snapshots,
        weights: &loaded.provenance.sha256,
        watch,
        truth: truth.as_ref(),
        record: match &resumed {
            Some((state, _)) => Record::open(&path, state.step())?,
            None => Record::begin(&path)?,
        },
        progress: Progress::new(adapt.steps),
        stop: interrupt::watch()?,
        accepted: resumed.as_ref().map_or(0, |(_, accepted)| *accepted),
    };
    let start = match &resumed {
        Some((state, _)) => {
            drop(untouched);
            let mode = choose::recorded(&record::read(&path)?, &config.choice.modes);
            let settings = mode.map_or(*adapt, |mode| mode.settings(adapt));
            let mut adapting = AdaptLoop::new(config.model.as_ref(), &loaded.params, &settings)?;
            adapting.restore(state)?;
            let told = format!("going on after step {}", state.step());
            observer.progress.say(&told);
            Start::Go(Box::new(adapting))
        }
        None => {
            observer.looked(&watch.compare(0, &initial, &initial), &untouched)?;
            outlines::tell(seen, &mut observer, &mut notes)?;
            if config.choice.modes.is_empty() {
                Start::Go(Box::new(untouched))
            } else {
                drop(untouched);
                choose::choose(&config, &loaded.params, &bench, &mut observer, &mut notes)?
            }
        }
    };
    let outcome = match start {
        Start::Go(mut adapting) => {
            let budget = args
                .budget
                .map(|whole| whole.saturating_sub(began.elapsed()));
            let accepted = observer.accepted;
            run::run(
                &mut adapting,
                &bench,
                watch,
                accepted,
                budget,
                &mut |event, adapting| observer.event(event, adapting),
            )?
        }
        Start::Over(outcome) => outcome,
    };
    observer.progress.finish();
    drop(observer);

    let left_out = source.left_out()?;
    let complete = inputs.left_out.is_empty() && left_out.is_empty();
    notes.extend(verdict::listed(&left_out));
    let manifest = deliver::deliver(
        &folder,
        &config,
        &loaded,
        inputs,
        deliver::Ended {
            outcome: &outcome,
            notes: std::mem::take(&mut notes),
            device,
            took: began.elapsed(),
        },
    )?;
    // The model is delivered: a page that fails does not fail the run. It comes before the words, which may find
    // nobody to read them.
    let page = report::write(&folder);
    verdict::tell(&manifest, folder.root(), args.json)?;
    match page {
        Ok(path) if !args.json => println!("report: {}", path.display()),
        Ok(_) => {}
        Err(reason) => tracing::warn!(
            "the model is delivered, but its report is not: {reason}; try `selfadapt report {}`",
            folder.root().display()
        ),
    }
    Ok(if complete {
        Outcome::Fine
    } else {
        Outcome::SomeFailed
    })
}
