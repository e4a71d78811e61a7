//! What travels between the rooms of a step: predictions, pseudo-labels and masks, one tensor a head.

use candle_core::Tensor;

use crate::error::{Error, Result};

/// A model's raw output for a batch.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// One map a head, in the order of `SegmentationModel::heads`: `[B, channels, H', W']`.
    /// Classification heads hold logits, regression heads raw values.
    pub heads: Vec<Tensor>,
    /// Bottleneck features, average-pooled over the image: `[B, D]`.
    pub embedding: Tensor,
}

impl Prediction {
    /// The maps of a head that the model names as its `what`.
    ///
    /// # Errors
    /// If there is no such head.
    pub(crate) fn head(&self, head: usize, what: &str) -> Result<&Tensor> {
        self.heads.get(head).ok_or_else(|| {
            Error::Setting(format!(
                "the model names head {head} as its {what} and has no such head"
            ))
        })
    }

    /// The same, but for a head whose maps are now `maps`.
    pub(crate) fn with(&self, head: usize, maps: Tensor) -> Self {
        let mut all = self.clone();
        all.heads[head] = maps;
        all
    }

    /// What it says of one image of the batch, as a batch of its own.
    ///
    /// # Errors
    /// If the batch has no image of that index.
    pub fn alone(&self, index: usize) -> Result<Self> {
        let one = |maps: &Tensor| maps.narrow(0, index, 1)?.contiguous();
        let heads = self.heads.iter().map(one);
        Ok(Self {
            heads: heads.collect::<candle_core::Result<_>>()?,
            embedding: one(&self.embedding)?,
        })
    }
}

/// The teacher's answer: mean and spread over the views, in the frame of the untransformed image.
#[derive(Clone, Debug)]
pub struct PseudoLabel {
    /// One map a head `[B, channels, H', W']`: probabilities for classification, values for regression.
    pub mean: Vec<Tensor>,
    /// Standard deviation over the views, of the same shapes.
    pub spread: Vec<Tensor>,
}

/// Which scalars take part in the loss: 1 where admitted, 0 elsewhere.
///
/// One map a head: `[B, channels, H', W']` for regression (each scalar target has its own mask),
/// `[B, 1, H', W']` for classification.
#[derive(Clone, Debug)]
pub struct Masks(pub Vec<Tensor>);
