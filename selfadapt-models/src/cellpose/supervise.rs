//! What Cellpose is taught: flows and cells of a label image, and the loss of its `train.py`.

use candle_core::{DType, Tensor};
use ndarray::{Array3, ArrayView3, Axis};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::objective::LossParts;
use selfadapt_core::supervise::Supervision;
use selfadapt_core::supervise::config::{Optimiser, TrainConfig};
use selfadapt_core::supervise::warp::Warp;
use selfadapt_kernels::label_flows::label_flows;
use selfadapt_kernels::masked_loss::{masked_bce_with_logits, masked_mse};
use selfadapt_kernels::objects::median_diameter;

/// The network predicts flows this many times as long as unit flows.
const FLOW_LENGTH: f64 = 5.;
/// Weight of the flows' mean squared error beside the cross-entropy of the cells.
const FLOW_WEIGHT: f64 = 0.5;
/// Side in pixels of the crops that Cellpose's networks are trained on.
pub(super) const CROP: usize = 224;
/// Images whose objects are said to be smaller are scaled as if they had this diameter.
const LEAST_DIAMETER: f64 = 5.;

/// Cellpose's targets: 1 in cells and 0 elsewhere, then unit flows (dY, dX).
#[derive(Clone, Copy, Debug)]
pub struct CellposeSupervision;

impl Supervision for CellposeSupervision {
    /// For a pretrained model and a few images SGD, as Cellpose 3.1 advises; from scratch AdamW with the defaults of
    /// its `train_seg`, in a quarter of its epochs.
    fn defaults(&self, from_scratch: bool) -> TrainConfig {
        let fine_tuning = TrainConfig {
            seed: 0,
            epochs: 100,
            crops_per_epoch: 0,
            batch: 8,
            crop: CROP,
            optimiser: Optimiser::Sgd,
            learning_rate: 0.1,
            weight_decay: 1e-4,
            momentum: 0.9,
            scale_range: 0.5,
            min_objects: 5,
        };
        if !from_scratch {
            return fine_tuning;
        }
        TrainConfig {
            epochs: 500,
            optimiser: Optimiser::AdamW,
            learning_rate: 0.005,
            weight_decay: 1e-5,
            ..fine_tuning
        }
    }

    fn diameter(&self, labels: &Labels) -> Option<f64> {
        Some(median_diameter(labels.as_slice()).max(LEAST_DIAMETER))
    }

    fn maps(&self, labels: &Labels) -> Result<Array3<f32>> {
        let (height, width) = labels.size();
        let flows = label_flows(labels.as_slice(), height, width)?;
        let cells = labels.as_slice().iter().map(|&label| f32::from(label != 0));
        let maps = cells.chain(flows.into_iter().map(|flow| flow as f32));
        Array3::from_shape_vec((3, height, width), maps.collect())
            .map_err(|error| Error::Labels(error.to_string()))
    }

    fn crop(&self, maps: ArrayView3<f32>, warp: &Warp) -> Result<Array3<f32>> {
        if maps.len_of(Axis(0)) != 3 {
            return Err(Error::Labels(format!(
                "expected cells and flows, three maps, found {}",
                maps.len_of(Axis(0))
            )));
        }
        let cells = warp.nearest(maps.index_axis(Axis(0), 0));
        let mut y = warp.bilinear(maps.index_axis(Axis(0), 1));
        let mut x = warp.bilinear(maps.index_axis(Axis(0), 2));
        warp.turn(&mut y, &mut x);
        let planes = [cells, y, x];
        let views: Vec<_> = planes.iter().map(|plane| plane.view()).collect();
        ndarray::stack(Axis(0), &views).map_err(|error| Error::Labels(error.to_string()))
    }

    fn loss(&self, prediction: &Prediction, targets: &Tensor) -> Result<(Tensor, LossParts)> {
        let [flows, cells] = prediction.heads.as_slice() else {
            return Err(Error::Setting(format!(
                "expected flows and cell probability, found {} heads",
                prediction.heads.len()
            )));
        };
        let wanted = (targets.narrow(1, 1, 2)? * FLOW_LENGTH)?.contiguous()?;
        let regression = masked_mse(flows, &wanted, &wanted.ones_like()?)?;
        let inside = targets.narrow(1, 0, 1)?.gt(0.5)?.to_dtype(DType::F32)?;
        let classification = masked_bce_with_logits(cells, &inside, &inside.ones_like()?)?;
        let parts = LossParts {
            classification: f64::from(classification.to_scalar::<f32>()?),
            regression: f64::from(regression.to_scalar::<f32>()?),
        };
        Ok((((regression * FLOW_WEIGHT)? + classification)?, parts))
    }
}
