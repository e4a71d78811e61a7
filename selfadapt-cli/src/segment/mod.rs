//! `selfadapt segment`: images to instance masks.

mod manifest;
mod outputs;
mod pipeline;
mod plan;
pub mod settings;
pub mod stream;

use std::path::{Path, PathBuf};
use std::time::Instant;

use selfadapt_core::infer::InferOptions;
use selfadapt_core::io::{self, Axes};
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use serde_json::Value;

use crate::axes::AxesFlags;
use crate::device::{DeviceChoice, HELP};
use crate::failure::{Failure, Outcome};
use crate::models::find;
use outputs::{MaskFormat, Save};
use pipeline::Scaling;

/// Segment images: write an instance mask for each
///
/// Goes on after an image that fails, lists the failures at the end and exits with 1. DIR/segment.json
/// records settings, versions, counts and times.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt segment --model cyto3 --out masks images/
  selfadapt segment --model run --out masks --save masks,rois \"plate1/*.tif\"
  selfadapt segment --model cyto2 --channels 2,1 --diameter 30 --out masks images/
  selfadapt segment --dir images --pretrained_model cyto2 --chan 2 --chan2 1 --diameter 30 --save_tif

Cellpose's own flags are understood: an existing command needs only its first word changed. What has no \
counterpart here is refused by name, never ignored. --diameter and --pretrained_model then default to \
Cellpose's 30 and cyto3, and results go beside the images unless --savedir names a folder.")]
pub struct Args {
    /// Images, folders of images, or patterns like "plate1/*.tif"
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// A model file or folder, or a name that `selfadapt models list` shows
    #[arg(long, value_name = "PATH_OR_NAME")]
    model: String,
    /// Folder for the results; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Mean diameter of the objects, in pixels [default: by the size model beside the model's file, image by
    /// image; where there is none, the one that the model was trained on]
    #[arg(
        long,
        value_name = "PIXELS",
        help_heading = "Scale",
        conflicts_with = "pixel_size"
    )]
    diameter: Option<f64>,
    /// Width of a pixel in micrometres, for models that work at a fixed resolution
    #[arg(long, value_name = "UM", help_heading = "Scale")]
    pixel_size: Option<f64>,

    #[command(flatten)]
    axes: AxesFlags,
    /// Skip images of folders and patterns whose stem ends so; may be given more than once
    #[arg(long, value_name = "ENDING", help_heading = "Images")]
    skip: Vec<String>,

    /// Channel to segment and channel of nuclei: 0 gray, 1 red, 2 green, 3 blue; second 0: none
    #[arg(long, value_name = "A,B", help_heading = "Model", value_parser = settings::numbers)]
    channels: Option<Value>,
    /// Largest flow error of a mask; 0 keeps all
    #[arg(long, value_name = "ERROR", help_heading = "Model")]
    flow_threshold: Option<f64>,
    /// Logit above which a pixel belongs to a cell
    #[arg(
        long,
        value_name = "LOGIT",
        help_heading = "Model",
        allow_negative_numbers = true
    )]
    cellprob_threshold: Option<f64>,
    /// Pixels below which a mask is dropped
    #[arg(long, value_name = "PIXELS", help_heading = "Model")]
    min_size: Option<usize>,
    /// Find masks at the working scale and enlarge them, rather than at the image's own
    #[arg(long, help_heading = "Model")]
    no_resample: bool,
    /// Overlap tiles by half and mirror them in turn: slower, slightly better
    #[arg(long, help_heading = "Model")]
    augment: bool,
    /// Drop masks that touch the image's edge
    #[arg(long, help_heading = "Model")]
    exclude_on_edges: bool,
    /// Any other setting of the model, as `selfadapt models info` lists them
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Model", value_parser = settings::parse)]
    set: Vec<(String, Value)>,
    /// Which images are gone through in parts, in bounded memory
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Large images"
    )]
    stream: stream::When,
    /// Pixels by which parts overlap, more than the largest object has [default: 4 diameters, at least 128]
    #[arg(long, value_name = "PIXELS", help_heading = "Large images")]
    overlap: Option<usize>,
    /// Tiles a forward pass
    #[arg(long, value_name = "N", help_heading = "Model", default_value_t = InferOptions::default().batch)]
    batch_size: usize,

    #[arg(
        long,
        value_name = "DEVICE",
        help = HELP,
        default_value = "auto",
        help_heading = "Model"
    )]
    device: DeviceChoice,

    /// What to write for each image
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "masks",
        help_heading = "Results"
    )]
    save: Vec<Save>,
    /// File format of the masks
    #[arg(long, value_enum, default_value = "tif", help_heading = "Results")]
    format: MaskFormat,
    /// Print the contents of segment.json
    #[arg(long, help_heading = "Results")]
    json: bool,
}

impl Args {
    /// Changes to the model's settings, by the names that its configuration uses.
    fn changes(&self) -> Vec<(String, Value)> {
        let flag = |set: bool, value: bool| set.then_some(Value::from(value));
        let named = [
            ("channels", self.channels.clone()),
            ("flow_threshold", self.flow_threshold.map(Value::from)),
            (
                "cellprob_threshold",
                self.cellprob_threshold.map(Value::from),
            ),
            ("min_size", self.min_size.map(Value::from)),
            ("resample", flag(self.no_resample, false)),
            ("augment", flag(self.augment, true)),
            ("exclude_on_edges", flag(self.exclude_on_edges, true)),
        ];
        let named = named
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        named.chain(self.set.iter().cloned()).collect()
    }

    /// A size given by the user wins over the size model, and that over the model's own size.
    fn scaling(&self, config: &dyn ModelConfig, weights: &Path) -> Result<Scaling, Failure> {
        let sizing = match (self.diameter, self.pixel_size) {
            (Some(diameter), _) => Sizing::Diameter(diameter),
            (None, Some(pixel_size)) => Sizing::PixelSize(pixel_size),
            (None, None) => match config.size_model(weights) {
                Ok(Some(size)) => return Ok(Scaling::ByImage(size)),
                Ok(None) => Sizing::Native,
                Err(error) => {
                    return Err(Failure::new(
                        error.to_string(),
                        "give a --diameter, or take this file away from beside the model",
                    ));
                }
            },
        };
        let scale = config.working_scale(sizing)?;
        Ok(Scaling::Fixed { sizing, scale })
    }
}

/// Says how large objects are taken for, and who says so.
fn tell(run: &pipeline::Run<'_>) {
    match &run.scaling {
        Scaling::ByImage(size) => {
            tracing::info!("diameter: image by image, by {}", size.path().display());
        }
        Scaling::Fixed { sizing, scale } => {
            let by = match sizing {
                Sizing::Native => "the model's own",
                _ => "as given",
            };
            match pipeline::diameter(run, *scale) {
                Some(pixels) => tracing::info!("diameter: {pixels:.1} pixels, {by}"),
                None => tracing::info!("scale: {scale:.3} working pixels a pixel, {by}"),
            }
        }
    }
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let skip: Vec<&str> = args.skip.iter().map(String::as_str).collect();
    let inputs = io::inputs(&args.inputs, &skip)?;
    let loaded = find::open(&args.model)?;
    let config = settings::with(loaded.config.as_ref(), &args.changes())?;
    let scaling = args.scaling(config.as_ref(), &loaded.provenance.path)?;
    let placed = args.device.place(config.as_ref())?;
    let config = placed.model;
    let network = Network::new(config.as_ref(), loaded.params, Lend::Detached)?;
    let others = config.other_decoders().into_iter().map(|(name, _)| name);
    let saves = outputs::Saves::new(&args.save, args.format, network.model.heads())?
        .beside(others.collect());
    let plan = plan::make(&inputs.images, &args.out, &saves)?;

    let run = pipeline::Run {
        config: config.as_ref(),
        network: &network,
        scaling,
        axes: args.axes.over(Axes::default()),
        options: InferOptions {
            batch: args.batch_size.max(1),
        },
        saves: &saves,
        streaming: stream::Streaming {
            when: args.stream,
            overlap: args.overlap,
        },
    };
    tell(&run);
    let mut results = pipeline::segment(&run, &plan)?;
    results.failed.extend(inputs.refused.iter().map(|error| {
        let path = match error {
            selfadapt_core::error::Error::Read { path, .. } => path.clone(),
            _ => PathBuf::new(),
        };
        pipeline::Failed {
            path,
            reason: error.to_string(),
        }
    }));
    let manifest = manifest::Manifest {
        provenance: &loaded.provenance,
        settings: settings::listed(config.as_ref())?,
        scaling: &run.scaling,
        axes: run.axes,
        batch: run.options.batch,
        device: &placed.device,
        results: &results,
        seconds: start.elapsed().as_secs_f64(),
    };
    let report = manifest.write(&args.out)?;
    for failed in &results.failed {
        tracing::error!("{}", failed.reason);
    }
    if args.json {
        print!("{report}");
    } else {
        println!("{}", manifest.summary(&args.out));
    }
    Ok(if results.failed.is_empty() {
        Outcome::Fine
    } else {
        Outcome::SomeFailed
    })
}
