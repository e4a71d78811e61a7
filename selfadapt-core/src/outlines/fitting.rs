//! Fitting the outlines in what a teacher labels to the edges in the images.

use candle_core::Tensor;

use super::Outlines;
use crate::error::{Error, Result};
use crate::foreground::Foreground;
use crate::maps::{Prediction, PseudoLabel};
use crate::model::{InstanceDecoder, ModelConfig, SegmentationModel};

/// Fits the outlines in what a teacher labels.
pub(crate) struct Fitting {
    pub(super) outlines: Outlines,
    pub(super) foreground: Foreground,
    pub(super) decoder: Box<dyn InstanceDecoder>,
}

impl std::fmt::Debug for Fitting {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Fitting")
            .field("outlines", &self.outlines)
            .field("foreground", &self.foreground)
            .finish_non_exhaustive()
    }
}

impl Outlines {
    /// Checks that what `model` predicts can be fitted to edges, where that is asked for.
    ///
    /// # Errors
    /// If the model has no foreground whose logits could be lowered.
    pub fn suit(&self, model: &dyn ModelConfig, network: &dyn SegmentationModel) -> Result<()> {
        Fitting::new(*self, model, network).map(drop)
    }
}

impl Fitting {
    /// As `outlines` asks for; none where it does not.
    ///
    /// # Errors
    /// If the model has no foreground whose logits could be lowered.
    pub fn new(
        outlines: Outlines,
        model: &dyn ModelConfig,
        network: &dyn SegmentationModel,
    ) -> Result<Option<Self>> {
        if !outlines.fit {
            return Ok(None);
        }
        let foreground = network.foreground().ok_or_else(|| {
            Error::Setting(format!(
                "adapt.outlines.fit: expected a model that tells cells from background by one map, found {}, which has none; \
                 leave --fit-outlines away",
                model.typetag_name()
            ))
        })?;
        Ok(Some(Self {
            outlines,
            foreground,
            decoder: model.decoder_at(1.),
        }))
    }

    /// Labels of crops `[B, C, H, W]` whose outlines lie where the crops change most.
    ///
    /// # Errors
    /// If the labels do not fit the decoder or the crops.
    pub fn fit(&self, crops: &Tensor, mut label: PseudoLabel) -> Result<PseudoLabel> {
        let mut maps = Prediction {
            heads: label.mean.clone(),
            // Decoders draw from heads.
            embedding: label.mean[0].clone(),
        };
        // As the decoder wants it: logits in place of probabilities.
        let probabilities = self.foreground.logits(&maps)?.clamp(1e-6, 1. - 1e-6)?;
        let logits = (probabilities.log()? - (1. - &probabilities)?.log()?)?;
        let head = self.foreground.head;
        maps.heads[head] = logits.clone();
        let maps = (0..crops.dim(0)?)
            .map(|index| maps.alone(index))
            .collect::<Result<Vec<_>>>()?;
        let found = self
            .outlines
            .find(&self.foreground, crops, &maps, self.decoder.as_ref())?;
        let falls = found.iter().flat_map(|found| {
            let owners = found.surroundings.owner.iter();
            owners.map(|&owner| found.fall(owner) as f32)
        });
        let falls = Tensor::from_iter(falls, logits.device())?.reshape(logits.shape())?;
        label.mean[head] = candle_nn::ops::sigmoid(&(logits - falls)?)?;
        Ok(label)
    }
}
