//! What StarDist is taught: how deep a pixel lies in its object and how far the border is along each ray, and the losses
//! of stardist 0.9.1.

use candle_core::{DType, Tensor};
use ndarray::{Array3, ArrayView3, Axis, Slice};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::objective::LossParts;
use selfadapt_core::supervise::Supervision;
use selfadapt_core::supervise::config::{Optimiser, TrainConfig};
use selfadapt_core::supervise::warp::Warp;
use selfadapt_kernels::masked_loss::masked_bce_with_logits;
use selfadapt_kernels::object_depths::object_depths;
use selfadapt_kernels::star_distances::star_distances;
use selfadapt_kernels::star_loss::{Penalty, star_loss};

use super::{DistLoss, StarDistConfig};

/// Objects beyond which their numbers are no longer whole ones in single precision.
const MOST_OBJECTS: usize = (1 << 24) - 2;

/// What a pixel's probability is where it shall not count, as in the package.
const UNKNOWN: f32 = -1.;

/// StarDist's targets at every `grid`-th pixel: depth in the object, -1 beyond the image, then distances along the rays.
#[derive(Clone, Debug)]
pub(super) struct StarDistSupervision {
    config: StarDistConfig,
    /// Side of the crops.
    crop: usize,
}

impl StarDistSupervision {
    /// With the losses that `config` says.
    ///
    /// # Errors
    /// If the model was trained in a way that is not known here.
    pub fn new(config: &StarDistConfig) -> Result<Self> {
        config.check()?;
        let completion = config.others.get("train_shape_completion");
        if let Some(value) = completion.filter(|value| *value != "false") {
            return Err(Error::Setting(format!(
                "train_shape_completion: expected false, found {value}: training that completes shapes beyond the \
                 crop's edge is not supported; the model can be trained by the stardist package"
            )));
        }
        Ok(Self {
            config: config.clone(),
            crop: config.input().crop,
        })
    }
}

impl Supervision for StarDistSupervision {
    /// Batch, learning rate and patch are the package's. It makes 400 epochs of 100 steps, whether a model is new or
    /// not; here a new one gets a quarter of these steps, and a pretrained one sees each image 100 times.
    fn defaults(&self, from_scratch: bool) -> TrainConfig {
        let fine_tuning = TrainConfig {
            seed: 0,
            epochs: 100,
            crops_per_epoch: 0,
            batch: 4,
            crop: self.crop,
            optimiser: Optimiser::AdamW,
            learning_rate: 3e-4,
            // Without it AdamW is Adam.
            weight_decay: 0.,
            momentum: 0.9,
            scale_range: 0.5,
            min_objects: 1,
        };
        if !from_scratch {
            return fine_tuning;
        }
        TrainConfig {
            epochs: 400,
            crops_per_epoch: 100,
            ..fine_tuning
        }
    }

    /// None: StarDist sees images as they are.
    fn diameter(&self, _: &Labels) -> Option<f64> {
        None
    }

    /// Labels `[1, H, W]`, one up: 1 is background, so that 0 tells what lies beyond the image.
    fn maps(&self, labels: &Labels) -> Result<Array3<f32>> {
        if labels.count() > MOST_OBJECTS {
            return Err(Error::Labels(format!(
                "expected at most {MOST_OBJECTS} objects in an image, found {}; cut it into pieces",
                labels.count()
            )));
        }
        let maps = labels.pixels().mapv(|label| (label + 1) as f32);
        Ok(maps.insert_axis(Axis(0)))
    }

    fn crop(&self, maps: ArrayView3<f32>, warp: &Warp) -> Result<Array3<f32>> {
        let grid = self.config.grid;
        if maps.len_of(Axis(0)) != 1 || !warp.side.is_multiple_of(grid) {
            return Err(Error::Labels(format!(
                "expected one map and a crop whose side is a multiple of {grid}, found {} and {}",
                maps.len_of(Axis(0)),
                warp.side
            )));
        }
        let seen = warp.nearest(maps.index_axis(Axis(0), 0));
        let label = |&value: &f32| (value as u32).saturating_sub(1);
        let labels: Vec<u32> = seen.iter().map(label).collect();
        // Depths are those of the thinned labels, distances those of all pixels, as in the package.
        let seen = seen.slice_each_axis(|_| Slice::new(0, None, grid as isize));
        let (rows, columns) = seen.dim();
        let thinned: Vec<u32> = seen.iter().map(label).collect();
        let depths = object_depths(&thinned, rows, columns)?;
        let places: Vec<[usize; 2]> = seen
            .indexed_iter()
            .map(|((y, x), _)| [y * grid, x * grid])
            .collect();
        let rays = self.config.n_rays;
        let distances = star_distances(&labels, warp.side, warp.side, &places, rays)?;
        let mut targets = Array3::zeros((1 + rays, rows, columns));
        for ((pixel, &seen), depth) in seen.indexed_iter().zip(depths) {
            let (y, x) = pixel;
            targets[[0, y, x]] = if seen == 0. { UNKNOWN } else { depth };
            let distances = &distances[(y * columns + x) * rays..][..rays];
            for (k, &distance) in distances.iter().enumerate() {
                targets[[1 + k, y, x]] = distance;
            }
        }
        Ok(targets)
    }

    fn loss(&self, prediction: &Prediction, targets: &Tensor) -> Result<(Tensor, LossParts)> {
        let [prob, dist] = prediction.heads.as_slice() else {
            return Err(Error::Setting(format!(
                "expected object probability and distances, found {} heads",
                prediction.heads.len()
            )));
        };
        let depths = targets.narrow(1, 0, 1)?.contiguous()?;
        let known = depths.ge(0.)?.to_dtype(DType::F32)?;
        let weights = depths.relu()?;
        let classification = masked_bce_with_logits(prob, &weights, &known)?;
        let right = targets.narrow(1, 1, self.config.n_rays)?.contiguous()?;
        let penalty = match self.config.train_dist_loss {
            DistLoss::Mae => Penalty::Absolute,
            DistLoss::Mse => Penalty::Squared,
            DistLoss::Iou => Penalty::Overlap,
        };
        let pull = self.config.train_background_reg;
        let regression = star_loss(dist, &right, &weights, penalty, pull)?;
        let parts = LossParts {
            classification: f64::from(classification.to_scalar::<f32>()?),
            regression: f64::from(regression.to_scalar::<f32>()?),
        };
        let [of_prob, of_dist] = self.config.train_loss_weights;
        Ok((
            ((classification * of_prob)? + (regression * of_dist)?)?,
            parts,
        ))
    }
}
