//! Scores against labels along a run: for people who have some, and for our own tables. Never learned from.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::io;
use selfadapt_core::labels::Labels;
use selfadapt_core::model::{InputSpec, InstanceDecoder};
use selfadapt_core::network::Network;
use selfadapt_metrics::aggregated_jaccard::aggregated_jaccard;
use selfadapt_metrics::average_precision::AveragePrecision;
use selfadapt_metrics::matching::Overlaps;

use super::record::TruthLine;
use super::settings::RunConfig;

/// Tiles that the network is given at once.
const BATCH: usize = 8;

/// Labelled images, prepared once.
pub struct Truth {
    images: Vec<(Tensor, Labels)>,
    spec: InputSpec,
    decoder: Box<dyn InstanceDecoder>,
}

impl Truth {
    /// Finds `<stem>_masks.*` in `folder` for images in the same folder, or else for `inputs`.
    ///
    /// # Errors
    /// If no image has labels, a pair differs in size, or a file cannot be read.
    pub fn open(folder: &Path, inputs: &[PathBuf], config: &RunConfig, scale: f64) -> Result<Self> {
        let beside = io::inputs(&[folder.to_owned()], &[])
            .map(|found| found.images)
            .unwrap_or_default();
        let mut pairs: Vec<(PathBuf, PathBuf)> = labelled(&beside, folder);
        if pairs.is_empty() {
            pairs = labelled(inputs, folder);
        }
        if pairs.is_empty() {
            return Err(Error::read(
                folder,
                "expected label images named <stem>_masks.tif or .png, for images in the same folder or for the inputs; found none",
            ));
        }
        let images = pairs
            .iter()
            .map(|(image, masks)| {
                let (pixels, _) = io::read(image, &config.axes)?;
                let labels = io::read_labels(masks)?;
                if labels.size() != pixels.size() {
                    return Err(Error::read(
                        masks,
                        format!(
                            "expected labels of {:?} pixels as the image has, found {:?}",
                            pixels.size(),
                            labels.size()
                        ),
                    ));
                }
                Ok((config.model.prepare(&pixels, scale)?, labels))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            images,
            spec: config.model.input(),
            decoder: config.model.decoder_at(scale),
        })
    }

    /// Segments every image with `network` and averages its scores, as `evaluate` does.
    ///
    /// # Errors
    /// If an image cannot be segmented.
    pub fn score(&self, network: &Network) -> Result<TruthLine> {
        let (mut ap50, mut ap75, mut aji, mut counted) = (0., 0., 0., 0.);
        for (prepared, truth) in &self.images {
            let maps = predict(network, &self.spec, prepared, InferOptions { batch: BATCH })?;
            let found = self.decoder.decode(&maps, truth.size())?;
            let overlaps = Overlaps::new(truth, &found)?;
            // An image without any object, true or found, has no score.
            if overlaps.truths() + overlaps.predictions() > 0 {
                ap50 += AveragePrecision::at(&overlaps, 0.5).ap;
                ap75 += AveragePrecision::at(&overlaps, 0.75).ap;
                aji += aggregated_jaccard(&overlaps);
                counted += 1.;
            }
        }
        Ok(TruthLine {
            ap50: ap50 / counted,
            ap75: ap75 / counted,
            aji: Some(aji / counted),
        })
    }
}

/// Images that have labels in `folder`.
fn labelled(images: &[PathBuf], folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    images
        .iter()
        .filter_map(|image| {
            let stem = image.file_stem()?.to_str()?;
            ["tif", "tiff", "png"]
                .iter()
                .map(|extension| folder.join(format!("{stem}_masks.{extension}")))
                .find(|masks| masks.is_file())
                .map(|masks| (image.clone(), masks))
        })
        .collect()
}
