//! Everything that a report tells, from the files of a run folder: record, manifest, settings, and what each stored
//! snapshot finds on the validation crops.

use std::path::PathBuf;

use candle_core::Tensor;
use ndarray::Array3;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::outlines::outlines;
use selfadapt_core::labels::Labels;
use selfadapt_core::model::Mode;
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_core::source::{Cached, ImageSource};
use selfadapt_metrics::changes::{Changes, Counts};

use super::picture;
use crate::adapt::folder::{RunFolder, read_params, superfluous};
use crate::adapt::manifest::Manifest;
use crate::adapt::record::{self, Line};
use crate::adapt::settings::RunConfig;
use crate::adapt::source::Files;

/// Validation crops that are shown; the criteria look at more of them.
const CROPS: usize = 8;
/// Snapshots that are shown: each is run on every crop.
const SNAPSHOTS: usize = 9;

/// All that a page is made from.
pub struct Gathered {
    /// The run folder, as the user calls it.
    pub root: PathBuf,
    pub config: RunConfig,
    pub manifest: Manifest,
    pub lines: Vec<Line>,
    pub crops: Vec<Crop>,
    /// By step; the first is the pretrained model.
    pub snapshots: Vec<Snapshot>,
    /// Names of the network's outputs.
    pub outputs: Vec<String>,
    /// How many snapshots are stored, shown or not.
    pub stored: usize,
}

/// A validation crop.
pub struct Crop {
    /// File name of the image that it was cut from.
    pub name: String,
    /// The picture as a `data:` address.
    pub picture: String,
    /// Side in pixels of the working scale.
    pub side: usize,
}

/// What one stored snapshot finds.
pub struct Snapshot {
    pub step: usize,
    /// One entry a crop.
    pub seen: Vec<Seen>,
}

/// What one snapshot finds on one crop.
pub struct Seen {
    /// Diameters of the discs of the cells' areas, in image pixels.
    pub diameters: Vec<f64>,
    /// The cells' outlines as [`picture::chain`] writes them.
    pub outlines: Vec<String>,
    /// What became of the pretrained model's cells.
    pub changes: Changes,
}

impl Snapshot {
    /// Over all crops.
    pub fn counts(&self) -> Counts {
        self.seen.iter().map(|seen| seen.changes.counts()).sum()
    }

    /// Median diameter over all crops, in image pixels; `None` of no cell.
    pub fn median_diameter(&self) -> Option<f64> {
        let all = self.seen.iter().flat_map(|seen| &seen.diameters);
        let mut all: Vec<f64> = all.copied().collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }
}

/// Reads a run folder and runs its snapshots on its validation crops.
///
/// # Errors
/// If the run is not finished, a file is damaged, or an image is no longer where it was.
pub fn gather(folder: &RunFolder) -> Result<Gathered> {
    let config = RunConfig::read(folder.root())?;
    let manifest = Manifest::read(folder.root())?;
    let lines = record::read(&folder.file("run.jsonl"))?;
    let stored = folder.snapshots()?;
    let without = superfluous(&stored, manifest.delivered_step, SNAPSHOTS);

    let paths: Vec<PathBuf> = manifest.inputs.iter().map(|i| i.path.clone()).collect();
    if let Some(gone) = paths.iter().find(|path| !path.exists()) {
        return Err(Error::read(
            gone,
            "the run adapted to this image, and the report shows it; put it back where it was",
        ));
    }
    let scale = config.model.working_scale(config.sizing)?;
    let files = Files::new(paths, &config, folder.root())?;
    let source = Cached::new(files, config.cache_mib << 20);
    // The crops that the criteria looked at: chosen by seed, so chosen again.
    let probe = config.probe(&source)?;
    let shown = probe.places().len().min(CROPS);
    let tensor = probe.crops().narrow(0, 0, shown)?;
    let crops = (0..shown)
        .map(|index| {
            let image = probe.places()[index].image;
            let name = source.name(image);
            let mut name = PathBuf::from(&name)
                .file_name()
                .map_or(name, |file| file.to_string_lossy().into_owned());
            let earlier = probe.places()[..index].iter();
            match earlier.filter(|place| place.image == image).count() {
                0 => {}
                before => name = format!("{name}, crop {}", before + 1),
            }
            Ok(Crop {
                name,
                picture: picture::address(pixels(&tensor.get(index)?)?.view())?,
                side: config.adapt.crop,
            })
        })
        .collect::<Result<Vec<_>>>()?;

    let mut gathered = Gathered {
        root: folder.root().to_owned(),
        crops,
        snapshots: Vec::new(),
        outputs: Vec::new(),
        stored: stored.len(),
        lines,
        manifest,
        config,
    };
    let mut first: Option<Vec<Labels>> = None;
    for step in stored.into_iter().filter(|step| !without.contains(step)) {
        let path = folder.snapshot_path(step);
        let model = gathered.config.model.as_ref();
        let params = read_params(&path, |name| model.role(name))?;
        let network = Network::new(model, params, Lend::Detached)?;
        let heads = network.model.heads().iter();
        gathered.outputs = heads.map(|head| head.name.to_owned()).collect();
        let labels = decoded(&gathered.config, &network, &tensor)?;
        let before = first.get_or_insert_with(|| labels.clone());
        let seen = before.iter().zip(&labels);
        let seen = seen.map(|(before, now)| Seen::new(before, now, scale));
        gathered.snapshots.push(Snapshot {
            step,
            seen: seen.collect::<Result<_>>()?,
        });
    }
    if gathered.snapshots.is_empty() {
        return Err(Error::read(
            folder.root(),
            "expected stored weights in snapshots/, found none: there is nothing to show",
        ));
    }
    Ok(gathered)
}

impl Seen {
    fn new(before: &Labels, now: &Labels, scale: f64) -> Result<Self> {
        let diameters = now.diameters().into_iter();
        Ok(Self {
            diameters: diameters.map(|diameter| diameter / scale).collect(),
            outlines: outlines(now).iter().map(picture::chain).collect(),
            changes: Changes::between(before, now)?,
        })
    }
}

/// Instances on each of `crops` `[N, C, H, W]`, found as the criteria's readings find them.
fn decoded(config: &RunConfig, network: &Network, crops: &Tensor) -> Result<Vec<Labels>> {
    let decoder = config.model.decoder_at(1.);
    let (count, _, height, width) = crops.dims4()?;
    let batch = config.adapt.batch.max(1);
    let mut labels = Vec::with_capacity(count);
    for start in (0..count).step_by(batch) {
        let crops = crops.narrow(0, start, batch.min(count - start))?;
        let maps = network.model.forward(&crops, Mode::Eval)?;
        for index in 0..crops.dim(0)? {
            labels.push(decoder.decode(&maps.alone(index)?, (height, width))?);
        }
    }
    Ok(labels)
}

/// A tensor `[C, H, W]` as an array.
fn pixels(tensor: &Tensor) -> Result<Array3<f32>> {
    let shape = tensor.dims3()?;
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    Array3::from_shape_vec(shape, values).map_err(|error| Error::Image(error.to_string()))
}
