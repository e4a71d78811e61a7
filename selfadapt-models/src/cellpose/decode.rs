//! From Cellpose's maps to instances, as `resize_and_compute_masks` of Cellpose 3 does.

use candle_core::Tensor;
use ndarray::{Array2, ArrayView2};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::InstanceDecoder;
use selfadapt_core::parts::Block;
use selfadapt_core::resize::{Span, bilinear, bilinear_part, nearest};
use selfadapt_kernels::fill_holes::{fill_holes_and_remove_small, remove_edge_masks};
use selfadapt_kernels::flow_error::flow_error;
use selfadapt_kernels::masks::{
    MaskParams, Part, compute_masks, compute_masks_of_part, gather_masks,
};

use super::CellposeConfig;

/// Steps of flow following at the scale of the network.
const STEPS: f64 = 200.;

/// Decodes maps with the thresholds of a configuration.
#[derive(Clone, Debug)]
pub struct CellposeDecoder {
    config: CellposeConfig,
}

impl CellposeDecoder {
    /// A decoder with the thresholds of `config`.
    pub fn new(config: CellposeConfig) -> Self {
        Self { config }
    }

    fn params(&self, niter: usize) -> MaskParams {
        MaskParams {
            cellprob_threshold: self.config.cellprob_threshold as f32,
            flow_threshold: self.config.flow_threshold,
            min_size: self.config.min_size,
            max_size_fraction: self.config.max_size_fraction,
            niter,
            interp: self.config.interp,
        }
    }
}

impl InstanceDecoder for CellposeDecoder {
    fn decode(&self, prediction: &Prediction, original: (usize, usize)) -> Result<Labels> {
        self.config.check()?;
        let maps = Maps::of(prediction)?;
        let (height, width) = original;
        let labels = if self.config.resample {
            // Scaled sizes are rounded down, so the larger ratio is the closer to the scale.
            let scale = (maps.height as f64 / height as f64).max(maps.width as f64 / width as f64);
            let niter = self.config.niter.unwrap_or((STEPS / scale) as usize);
            let maps = maps.resized(original);
            compute_masks(
                &self.params(niter),
                &maps.flows,
                &maps.logits,
                height,
                width,
            )?
        } else {
            let params = self.params(self.config.niter.unwrap_or(STEPS as usize));
            let labels = gather_masks(&params, &maps.flows, &maps.logits, maps.height, maps.width)?;
            let labels = resized_labels(labels, (maps.height, maps.width), original);
            fill_holes_and_remove_small(&labels, height, width, params.min_size)?
        };
        let labels = if self.config.exclude_on_edges {
            remove_edge_masks(&labels, height, width)?
        } else {
            labels
        };
        Labels::from_rows(height, width, labels)
    }

    /// As of the whole image, except that small masks are dropped by their own area: Cellpose drops by rank (see
    /// `compute_masks_of_part`), and a rank is that of the whole image.
    fn decode_part(&self, maps: &Prediction, block: &Block) -> Result<Option<Labels>> {
        self.config.check()?;
        if !self.config.resample {
            return Err(Error::Setting(
                "resample = false (--no-resample) needs the whole image; leave it out, or segment without --stream".into(),
            ));
        }
        let maps = Maps::of(maps)?;
        let (rows, columns) = (&block.rows, &block.columns);
        let ratio = |span: &Span| span.from as f64 / span.to as f64;
        let scale = ratio(rows).max(ratio(columns));
        let niter = self.config.niter.unwrap_or((STEPS / scale) as usize);
        let resized = |planes: &[f32]| -> Result<Vec<f32>> {
            let mut resized = Vec::new();
            for plane in planes.chunks(maps.height * maps.width) {
                let plane = ArrayView2::from_shape((maps.height, maps.width), plane)
                    .map_err(|reason| Error::Image(reason.to_string()))?;
                resized.extend(bilinear_part(plane, rows, columns)?);
            }
            Ok(resized)
        };
        let (height, width) = block.size();
        let part = Part {
            origin: [rows.wanted.start, columns.wanted.start],
            image: block.image().into(),
        };
        let (flows, logits) = (resized(&maps.flows)?, resized(&maps.logits)?);
        let params = self.params(niter);
        let mut labels = compute_masks_of_part(&params, &flows, &logits, [height, width], part)?;
        if self.config.exclude_on_edges {
            drop_at_edges(&mut labels, block);
        }
        Ok(Some(Labels::from_rows(height, width, labels)?))
    }

    /// The mean over instances of the flow error (`metrics.flow_error`), at the labels' size.
    fn inconsistency(&self, prediction: &Prediction, labels: &Labels) -> Result<f64> {
        let (height, width) = labels.size();
        let maps = Maps::of(prediction)?.resized(labels.size());
        let errors = flow_error(labels.as_slice(), &maps.flows, height, width)?;
        // An image without instances gives 0 / 0, which is the NaN that is due.
        Ok(errors.iter().map(|(_, error)| error).sum::<f64>() / errors.len() as f64)
    }
}

/// Drops the masks that touch the edge of the image, not only that of the part.
fn drop_at_edges(labels: &mut [u32], block: &Block) {
    let width = block.columns.wanted.len();
    let outer = |span: &Span, at: usize| {
        let at = span.wanted.start + at;
        at == 0 || at + 1 == span.to
    };
    let mut dropped: Vec<u32> = labels
        .iter()
        .enumerate()
        .filter(|(i, _)| outer(&block.rows, i / width) || outer(&block.columns, i % width))
        .map(|(_, &label)| label)
        .collect();
    dropped.sort_unstable();
    dropped.dedup();
    for label in labels.iter_mut() {
        if dropped.binary_search(label).is_ok() {
            *label = 0;
        }
    }
}

fn resized_labels(labels: Vec<u32>, from: (usize, usize), to: (usize, usize)) -> Vec<u32> {
    if from == to {
        return labels;
    }
    let labels = Array2::from_shape_vec(from, labels).unwrap_or_default();
    nearest(labels.view(), to).into_raw_vec_and_offset().0
}

/// One image's maps in memory.
struct Maps {
    height: usize,
    width: usize,
    /// (dY, dX) `[2, height, width]`, five times their unit length.
    flows: Vec<f32>,
    /// Logits of being in a cell `[height, width]`.
    logits: Vec<f32>,
}

impl Maps {
    fn of(prediction: &Prediction) -> Result<Self> {
        let shapes: Vec<&[usize]> = prediction.heads.iter().map(Tensor::dims).collect();
        let (flows, logits, height, width) = match (shapes.as_slice(), prediction.heads.as_slice())
        {
            (&[&[1, 2, height, width], &[1, 1, h, w]], [flows, logits])
                if (h, w) == (height, width) && h * w > 0 =>
            {
                (flows, logits, height, width)
            }
            _ => {
                return Err(Error::Setting(format!(
                    "Cellpose's decoder: expected flows [1, 2, H, W] and cell logits [1, 1, H, W], found {shapes:?}"
                )));
            }
        };
        Ok(Self {
            height,
            width,
            flows: flows.flatten_all()?.to_vec1()?,
            logits: logits.flatten_all()?.to_vec1()?,
        })
    }

    /// The maps at another size; flows keep their length, which is a direction and not a distance.
    fn resized(self, size: (usize, usize)) -> Self {
        if size == (self.height, self.width) {
            return self;
        }
        let resize = |planes: &[f32]| {
            let planes = planes.chunks(self.height * self.width);
            planes
                .filter_map(|plane| ArrayView2::from_shape((self.height, self.width), plane).ok())
                .flat_map(|plane| bilinear(plane, size))
                .collect()
        };
        Self {
            flows: resize(&self.flows),
            logits: resize(&self.logits),
            height: size.0,
            width: size.1,
        }
    }
}
