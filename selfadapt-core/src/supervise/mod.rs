//! Training from labels: what a model is taught, crops that turn and grow, and the epochs.

pub mod config;
mod examples;
mod optimiser;
mod sgd;
pub mod train;
pub mod warp;

use candle_core::Tensor;
use ndarray::{Array3, ArrayView3};

use config::TrainConfig;
pub use examples::Example;

use crate::error::Result;
use crate::labels::Labels;
use crate::maps::Prediction;
use crate::objective::LossParts;
use warp::Warp;

/// How a model learns from labels: from [`crate::model::ModelConfig::supervision`].
pub trait Supervision: Send + Sync {
    /// Settings of a training that says nothing else: of a pretrained model, or `from_scratch`.
    fn defaults(&self, from_scratch: bool) -> TrainConfig;

    /// The diameter in pixels by which an image with these labels is scaled to the model's working scale; none where
    /// the model does not scale by its objects.
    fn diameter(&self, labels: &Labels) -> Option<f64>;

    /// What is computed once from an image's labels, `[K, H, W]` at the image's own scale; [`Supervision::crop`]
    /// turns it into the targets of a crop.
    ///
    /// # Errors
    /// If the labels cannot be taught from.
    fn maps(&self, labels: &Labels) -> Result<Array3<f32>>;

    /// The targets of one crop, from an image's maps: `[T, H', W']` with as many pixels as the network's maps have for
    /// the crop, so a `grid`-th of its `side` each ([`crate::model::InputSpec::grid`]).
    ///
    /// What a target is computed from may be warped in place of the target: labels turned and scaled under the crop have
    /// other distances to their borders than the image's had.
    ///
    /// # Errors
    /// If the maps are not those of [`Supervision::maps`].
    fn crop(&self, maps: ArrayView3<f32>, warp: &Warp) -> Result<Array3<f32>>;

    /// The loss, a differentiable scalar, of a prediction against targets `[B, T, H', W']`, and its parts.
    ///
    /// # Errors
    /// If the prediction is not the model's, or the targets do not fit it.
    fn loss(&self, prediction: &Prediction, targets: &Tensor) -> Result<(Tensor, LossParts)>;
}
