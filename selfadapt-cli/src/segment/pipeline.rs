//! Image after image through reading, network, decoding and writing, the three overlapped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

use candle_core::Tensor;
use selfadapt_core::diameter::{ImageDiameter, SizeModel};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::io::{self, Axes, Provenance};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_kernels::objects::median_diameter;
use serde::Serialize;

use super::outputs::{Saves, Segmented};
use super::plan::Plan;
use super::settings;
use super::stream::{self, Streaming};
use crate::console;
use crate::failure::Failure;

/// Images that wait between two stages; each holds its pixels and maps.
const WAITING: usize = 1;

/// How large the network sees an image.
#[derive(Debug)]
pub enum Scaling {
    /// All images alike.
    Fixed {
        /// Why so.
        sizing: Sizing,
        /// Working pixels an image pixel.
        scale: f64,
    },
    /// As the size model finds the objects of each.
    ByImage(Box<dyn SizeModel>),
}

/// Everything that is the same for all images.
pub struct Run<'a> {
    pub config: &'a dyn ModelConfig,
    pub network: &'a Network,
    pub scaling: Scaling,
    pub axes: Axes,
    pub options: InferOptions,
    pub saves: &'a Saves,
    pub streaming: Streaming,
}

/// What came of all images, in the order of the plan.
#[derive(Debug, Default)]
pub struct Results {
    pub done: Vec<Done>,
    pub failed: Vec<Failed>,
}

impl Results {
    /// Takes in what came of an image, and tells it. Only a bad setting is passed on.
    fn take(&mut self, path: &Path, outcome: Result<Done>) -> Result<(), Failure> {
        match outcome {
            Ok(done) => {
                let size = done.size_model.map_or_else(String::new, |size| {
                    format!(
                        ", diameter {:.1} by the size model (style {:.1}, then {} masks)",
                        size.pixels, size.by_style, size.masks
                    )
                });
                let others = done.others.iter();
                let others: String = others.map(|(kind, n)| format!(", {n} {kind}")).collect();
                tracing::info!(
                    "{}: {} cells{others}{size} ({})",
                    path.display(),
                    done.cells,
                    done.image
                );
                if done.cells == 0 {
                    tracing::warn!(
                        "{}: no cells found: is the diameter right, are the thresholds too strict?",
                        path.display()
                    );
                }
                self.done.push(done);
            }
            Err(error @ Error::Setting(_)) => return Err(error.into()),
            Err(error) => {
                let reason = match &error {
                    Error::Read { .. } | Error::Write { .. } => error.to_string(),
                    _ => format!("{}: {error}", path.display()),
                };
                tracing::debug!("failed: {reason}");
                self.failed.push(Failed {
                    path: path.to_owned(),
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// An image that was segmented.
#[derive(Debug, Serialize)]
pub struct Done {
    pub cells: usize,
    /// Instances of further kinds, by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<&'static str, usize>,
    pub image: Provenance,
    /// Working pixels an image pixel.
    pub scale: f64,
    /// What the size model found, where it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_model: Option<ImageDiameter>,
    pub outputs: Vec<PathBuf>,
    pub seconds: Seconds,
}

/// Time spent in each stage.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Seconds {
    /// Reading the file, choosing channels, normalising, scaling.
    pub read: f64,
    /// The size model's own passes through the network.
    pub size: f64,
    /// The network, over all tiles.
    pub network: f64,
    /// From maps to instances.
    pub decode: f64,
    /// Writing the results.
    pub write: f64,
}

/// An image that was not.
#[derive(Debug, Serialize)]
pub struct Failed {
    pub path: PathBuf,
    pub reason: String,
}

/// An image on its way; `payload` is what the last stage made of it.
struct Parcel<T> {
    path: PathBuf,
    outcome: Result<(Source, T)>,
}

/// What all later stages need of an image.
struct Source {
    image: Image,
    provenance: Provenance,
    scale: f64,
    size_model: Option<ImageDiameter>,
    seconds: Seconds,
}

/// Segments all images of a plan. Only a bad setting, which no image survives, ends the run early.
pub fn segment(run: &Run<'_>, plan: &Plan) -> Result<Results, Failure> {
    let takes = |path: &PathBuf| run.streaming.takes(path, &run.axes);
    let (large, usual): (Vec<_>, Vec<_>) = plan.images.iter().cloned().partition(takes);
    let plan = Plan {
        images: usual,
        folder: plan.folder.clone(),
    };
    let mut results = in_memory(run, &plan)?;
    for path in large {
        let outcome = stream::segment(run, &plan, &path);
        results.take(&path, outcome)?;
    }
    Ok(results)
}

/// Segments images that fit into memory.
fn in_memory(run: &Run<'_>, plan: &Plan) -> Result<Results, Failure> {
    let bar = console::bar(plan.images.len(), "segmenting");
    let results = std::thread::scope(|scope| {
        let (to_network, from_reader) = sync_channel(WAITING);
        let (to_decoder, from_network) = sync_channel(WAITING);
        scope.spawn(|| read_all(run, plan, to_network));
        let decoder = scope.spawn(|| decode_all(run, plan, from_network, || bar.inc(1)));
        predict_all(run, from_reader, to_decoder);
        // A panic in a thread goes on in this one.
        decoder
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    bar.finish_and_clear();
    results
}

/// Reads images, and prepares them where their scale is known already.
fn read_all(run: &Run<'_>, plan: &Plan, next: SyncSender<Parcel<Option<Tensor>>>) {
    for path in &plan.images {
        let outcome = read(run, path);
        let path = path.clone();
        // The others stop early where a setting turned out to be bad.
        if next.send(Parcel { path, outcome }).is_err() {
            return;
        }
    }
}

fn read(run: &Run<'_>, path: &Path) -> Result<(Source, Option<Tensor>)> {
    let start = Instant::now();
    let (image, provenance) = io::read(path, &run.axes)?;
    io::check_finite(&image)?;
    let (scale, prepared) = match run.scaling {
        Scaling::Fixed { scale, .. } => (scale, Some(run.config.prepare(&image, scale)?)),
        Scaling::ByImage(_) => (f64::NAN, None),
    };
    let source = Source {
        image,
        provenance,
        scale,
        size_model: None,
        seconds: Seconds {
            read: start.elapsed().as_secs_f64(),
            ..Seconds::default()
        },
    };
    Ok((source, prepared))
}

fn predict_all(
    run: &Run<'_>,
    images: Receiver<Parcel<Option<Tensor>>>,
    next: SyncSender<Parcel<Prediction>>,
) {
    let spec = run.config.input();
    for Parcel { path, outcome } in images {
        let outcome = outcome.and_then(|(mut source, prepared)| {
            let prepared = match (prepared, &run.scaling) {
                (None, Scaling::ByImage(size)) => measured(run, size.as_ref(), &mut source)?,
                (Some(prepared), _) => prepared,
                (None, Scaling::Fixed { scale, .. }) => {
                    run.config.prepare(&source.image, *scale)?
                }
            };
            let start = Instant::now();
            let prediction = predict(run.network, &spec, &prepared, run.options)?;
            source.seconds.network = start.elapsed().as_secs_f64();
            Ok((source, prediction))
        });
        if next.send(Parcel { path, outcome }).is_err() {
            return;
        }
    }
}

/// Asks the size model, and prepares the image at the scale that it says.
fn measured(run: &Run<'_>, size: &dyn SizeModel, source: &mut Source) -> Result<Tensor> {
    let start = Instant::now();
    let found = size.estimate(run.network, &source.image, run.options)?;
    source.scale = run.config.working_scale(Sizing::Diameter(found.pixels))?;
    source.size_model = Some(found);
    let prepared = run.config.prepare(&source.image, source.scale)?;
    source.seconds.size = start.elapsed().as_secs_f64();
    Ok(prepared)
}

fn decode_all(
    run: &Run<'_>,
    plan: &Plan,
    images: Receiver<Parcel<Prediction>>,
    mut after_each: impl FnMut(),
) -> Result<Results, Failure> {
    let mut results = Results::default();
    for Parcel { path, outcome } in images {
        let outcome =
            outcome.and_then(|(source, prediction)| decode(run, plan, &path, source, &prediction));
        results.take(&path, outcome)?;
        after_each();
    }
    Ok(results)
}

fn decode(
    run: &Run<'_>,
    plan: &Plan,
    path: &Path,
    source: Source,
    prediction: &Prediction,
) -> Result<Done> {
    let mut seconds = source.seconds;
    let start = Instant::now();
    let size = source.image.size();
    let decoder = run.config.decoder_at(source.scale);
    let labels = decoder.decode(prediction, size)?;
    let others = run
        .config
        .other_decoders()
        .into_iter()
        .map(|(kind, decoder)| Ok((Some(kind), decoder.decode(prediction, size)?)))
        .collect::<Result<Vec<_>>>()?;
    seconds.decode = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let cells = labels.count();
    for (kind, labels) in [(None, labels)].iter().chain(&others) {
        let own = || median_diameter(labels.as_slice());
        let segmented = Segmented {
            path,
            kind: *kind,
            image: &source.image,
            labels,
            prediction,
            diameter: diameter(run, source.scale).unwrap_or_else(own),
            channels: channels(run),
        };
        run.saves.write(&segmented, &plan.folder)?;
    }
    seconds.write = start.elapsed().as_secs_f64();
    Ok(Done {
        cells,
        others: others
            .iter()
            .filter_map(|(kind, labels)| Some(((*kind)?, labels.count())))
            .collect(),
        image: source.provenance,
        scale: source.scale,
        size_model: source.size_model,
        outputs: run.saves.paths(path, &plan.folder),
        seconds,
    })
}

/// The diameter that objects are taken for, of a model with a mean diameter.
pub fn diameter(run: &Run<'_>, scale: f64) -> Option<f64> {
    let settings = settings::listed(run.config).ok()?;
    Some(settings.get("diam_mean")?.as_f64()? / scale)
}

/// Cellpose's channel numbers, where the model has them; else gray.
fn channels(run: &Run<'_>) -> [u8; 2] {
    let settings = settings::listed(run.config).ok();
    let channels = settings.and_then(|settings| settings.get("channels").cloned());
    channels
        .and_then(|channels| serde_json::from_value(channels).ok())
        .unwrap_or([0, 0])
}
