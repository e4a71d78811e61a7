//! `selfadapt adapt`: a folder of unlabelled images and a model go in, a model that fits them comes out.

pub mod curves;
pub mod deliver;
pub mod folder;
mod interrupt;
pub mod manifest;
mod progress;
pub mod record;
mod resolve;
mod scale;
pub mod settings;
pub mod source;
mod truth;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use candle_core::Device;
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::crops::Cached;
use selfadapt_core::monitor::Probe;
use selfadapt_core::run::{self, Event, Wish, Workbench};
use selfadapt_core::stop::Verdict;

use crate::failure::{Failure, Outcome};
use crate::report;
use progress::Progress;
use record::{Line, ReadingLine, Record};
use resolve::Resolved;
use settings::Preset;
use source::Files;

/// Adapt a pretrained model to unlabelled images.
///
/// Examples:
///   selfadapt adapt --model cyto_scellseg.pt --out run --diameter 26 images/
///   selfadapt adapt --resume run
///   selfadapt segment --model run --out masks images/
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Images to adapt to: files, folders, or patterns
    #[arg(required_unless_present_any = ["resume", "config"])]
    pub inputs: Vec<PathBuf>,
    /// Pretrained model: a file, the folder of an earlier run, or the name of a model that Cellpose downloaded
    #[arg(long, value_name = "PATH_OR_NAME", required_unless_present_any = ["resume", "config"])]
    pub model: Option<String>,
    /// Folder for everything that the run writes
    #[arg(long, value_name = "DIR", required_unless_present = "resume")]
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
    #[arg(long, value_name = "PIXELS|auto")]
    pub diameter: Option<String>,
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
    /// The student's batch norm [default: train, or the config file's]
    #[arg(long, value_enum)]
    pub mode: Option<resolve::ModeWish>,
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
    /// Print the manifest's last lines as JSON and nothing else
    #[arg(long)]
    pub json: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// If the run cannot begin, or a step or a file fails.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let Resolved {
        folder,
        config,
        loaded,
        files,
        resumed,
        truth,
        mut notes,
    } = resolve::resolve(&args)?;
    let scale = config.model.working_scale(config.sizing)?;
    let files = Files::new(files, config.model.as_ref(), scale);
    let paths = files.paths().to_vec();
    let source = Cached::new(files, config.cache_mib << 20);
    let (watch, adapt) = (&config.watch, &config.adapt);
    let probe = Probe::choose(&source, adapt.crop, watch.crops, adapt.seed, &Device::Cpu)?;
    let decoder = config.model.decoder();

    let mut adapting = AdaptLoop::new(config.model.as_ref(), &loaded.params, adapt)?;
    let initial = probe.read(watch.delivered(&adapting), decoder.as_ref(), adapt.batch)?;
    notes.extend(verdict::doubts(&initial));
    let bench = Workbench {
        source: &source,
        probe: &probe,
        decoder: decoder.as_ref(),
        initial: &initial,
    };
    let score = |adapting: &AdaptLoop| {
        truth
            .as_ref()
            .map(|truth| truth.score(watch.delivered(adapting)))
            .transpose()
    };

    // Only now is it a run: what was refused so far leaves nothing that would be taken for one.
    folder.write_text("config.toml", &config.to_toml()?)?;
    let progress = Progress::new(adapt.steps);
    let mut accepted = 0;
    let mut record;
    if let Some((state, before)) = &resumed {
        adapting.restore(state)?;
        accepted = *before;
        record = Record::open(&folder.file("run.jsonl"), state.step())?;
        progress.say(&format!("going on after step {}", state.step()));
    } else {
        record = Record::begin(&folder.file("run.jsonl"))?;
        let look = watch.look(&adapting, &bench)?;
        let scored = score(&adapting)?;
        progress.look(&look, scored);
        record.push(&Line::Reading(ReadingLine::new(&look, scored)))?;
        folder.keep_snapshot(0, &loaded.params)?;
    }

    let stop = interrupt::watch()?;
    let before = accepted;
    let outcome = run::run(
        &mut adapting,
        &bench,
        watch,
        before,
        args.budget,
        &mut |event, adapting| {
            match event {
                Event::Stepped(report) => {
                    record.push(&Line::Step(report.clone()))?;
                    progress.step(report);
                }
                Event::Read(look) => {
                    let scored = score(adapting)?;
                    let within = look.verdict == Verdict::Continue || !watch.stop;
                    if within {
                        accepted = look.step;
                    }
                    record.push(&Line::Reading(ReadingLine::new(look, scored)))?;
                    record.sync()?;
                    folder.keep_snapshot(look.step, &watch.delivered(adapting).params)?;
                    // A run that ends here and is killed before it delivers looks once more, and ends again.
                    if within {
                        folder.save_state(
                            &adapting.state()?,
                            accepted,
                            &loaded.provenance.sha256,
                        )?;
                    }
                    // Only now: until then the saved state may rest on a snapshot that goes.
                    folder.thin_snapshots(accepted, config.snapshots)?;
                    progress.look(look, scored);
                }
                Event::WentBack { step, reason } => {
                    progress.say(&format!(
                        "{reason}: back to step {step} with half the learning rate"
                    ));
                    record.push(&Line::WentBack { step, reason })?;
                }
            }
            Ok(if stop.is_set() {
                Wish::Stop
            } else {
                Wish::Continue
            })
        },
    )?;
    progress.finish();

    let manifest = deliver::deliver(
        &folder,
        &config,
        &loaded,
        &paths,
        &outcome,
        std::mem::take(&mut notes),
        began.elapsed(),
    )?;
    verdict::tell(&manifest, folder.root(), args.json)?;
    // The model is delivered: a page that fails does not fail the run.
    match report::write(&folder) {
        Ok(path) if !args.json => println!("report: {}", path.display()),
        Ok(_) => {}
        Err(reason) => tracing::warn!(
            "the model is delivered, but its report is not: {reason}; try `selfadapt report {}`",
            folder.root().display()
        ),
    }
    Ok(Outcome::Fine)
}
