//! The seam: what a model brings so that everything else works for it.

use std::path::Path;

use candle_core::Tensor;
use candle_core::backprop::GradStore;
use candle_nn::VarBuilder;
use selfadapt_kernels::device::Device;
use serde::{Deserialize, Serialize};

use crate::diameter::SizeModel;
use crate::error::{Error, Result};
use crate::foreground::Foreground;
use crate::head::Head;
use crate::image::Image;
use crate::labels::Labels;
use crate::lengths::Lengths;
use crate::maps::Prediction;
use crate::params::{Role, Stage};
use crate::parts::{Block, ImageParts, PreparedParts};
use crate::perturb::Perturb;
use crate::supervise::Supervision;

/// Which statistics batch norm uses in a forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Running statistics, left as they are: inference, and training with frozen batch norm.
    Eval,
    /// The batch's own statistics; the running estimates are updated in place.
    Train,
}

/// A network whose weights are already in place.
pub trait SegmentationModel: Send + Sync {
    /// The output maps, in the order of [`Prediction::heads`].
    fn heads(&self) -> &[Head];

    /// The bias that decides how large objects are drawn; `None` where no such number does, as where borders are regressed.
    fn foreground(&self) -> Option<Foreground> {
        None
    }

    /// The weights that all lengths of objects are proportional to; `None` where none are, as where pixels are classified.
    fn lengths(&self) -> Option<Lengths> {
        None
    }

    /// Runs a batch of prepared images `[B, C, H, W]`, H and W multiples of [`InputSpec::divisor`].
    ///
    /// Built on tracked weights the result can be differentiated by candle.
    ///
    /// # Errors
    /// If the images do not fit the network.
    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Prediction>;

    /// One forward and backward pass: gradients of `loss` by every trainable weight.
    ///
    /// `loss` receives the prediction and returns a scalar. The default differentiates
    /// [`SegmentationModel::forward`] with candle; a model with a faster way overrides it.
    ///
    /// # Errors
    /// If the pass or `loss` fails.
    fn backward(
        &self,
        images: &Tensor,
        mode: Mode,
        loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>,
    ) -> Result<GradStore> {
        let prediction = self.forward(images, mode)?;
        Ok(loss(&prediction)?.backward()?)
    }
}

/// Turns maps of a whole image into instances.
pub trait InstanceDecoder: Send + Sync {
    /// Decodes one image's maps (`[1, channels, H', W']` each, at the working scale) into labels of
    /// the original image's size `(height, width)`.
    ///
    /// # Errors
    /// If the maps are not those of the decoder's model.
    fn decode(&self, prediction: &Prediction, original: (usize, usize)) -> Result<Labels>;

    /// As [`InstanceDecoder::decode`], for a part of an image too large to be decoded as a whole: `maps` holds the pixels
    /// `block.rows.source()` x `block.columns.source()` of the maps. An object well inside the part comes out as it does
    /// of the whole image. None where the model cannot do that.
    ///
    /// # Errors
    /// As [`InstanceDecoder::decode`], and if a setting needs the whole image.
    fn decode_part(&self, maps: &Prediction, block: &Block) -> Result<Option<Labels>> {
        let _ = (maps, block);
        Ok(None)
    }

    /// How badly the maps fit the instances decoded from them: 0 is a perfect fit. NaN where the model
    /// offers no such check or there is no instance.
    ///
    /// # Errors
    /// If the maps are not those of the decoder's model.
    fn inconsistency(&self, prediction: &Prediction, labels: &Labels) -> Result<f64> {
        let _ = (prediction, labels);
        Ok(f64::NAN)
    }
}

/// What a model expects of its input and how large images are cut.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InputSpec {
    /// Channels of the prepared tensor.
    pub channels: usize,
    /// Height and width must be multiples of it.
    pub divisor: usize,
    /// Side of the square crops that the network was trained on, in pixels.
    pub crop: usize,
    /// Side of the square tiles into which a large image is cut, in pixels.
    pub tile: usize,
    /// Tiles begin at multiples of it, itself a multiple of `grid`.
    pub align: usize,
    /// Output pixels per input pixel is `1 / grid` (StarDist's grid; 1 elsewhere).
    pub grid: usize,
    /// Zero pixels added on each side beyond what `divisor` asks for.
    pub margin: usize,
    /// Share of a tile that overlaps its neighbour.
    pub overlap: f64,
    /// How the outputs of overlapping tiles are weighted.
    pub window: Window,
    /// Whether tiles overlap by half and every other one is mirrored: slower and smoother.
    pub mirrored: bool,
}

/// How the outputs of overlapping tiles are brought together; the same along both axes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// A sigmoid that is 1/2 at `inset` pixels from the tile's edge and falls by e in `softness` pixels.
    Sigmoid {
        /// Pixels from the edge to the middle of the slope.
        inset: f64,
        /// Width of the slope in pixels.
        softness: f64,
    },
    /// DeepCell's way: whole tiles at even steps, `overlap` of a tile in common, weighted across it by a squared
    /// spline; class maps are blended as probabilities. An image is padded by zeros on both sides to whole
    /// steps, or mirrored where it is smaller than a tile.
    Spline,
}

/// How large the objects or the pixels are: fixes the scale at which a model works.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sizing {
    /// What the model or its weights say by themselves.
    Native,
    /// Mean object diameter, in image pixels.
    Diameter(f64),
    /// Width of an image pixel, in micrometres.
    PixelSize(f64),
}

/// A model's configuration: the part that is written to disk beside its weights.
///
/// Each implementor registers itself with `#[typetag::serde(name = "...")]` in its own file.
#[typetag::serde(tag = "model")]
pub trait ModelConfig: std::any::Any + std::fmt::Debug + Send + Sync {
    /// Shape of the input.
    fn input(&self) -> InputSpec;

    /// What a named parameter is for.
    fn role(&self, name: &str) -> Role;

    /// Where a named weight works; `None` where the model does not say: then its halves cannot move alone.
    fn stage(&self, name: &str) -> Option<Stage> {
        let _ = name;
        None
    }

    /// Builds the network from weights; asks for every one of them by name.
    ///
    /// # Errors
    /// If a weight is missing or has another shape.
    fn build(&self, weights: VarBuilder) -> Result<Box<dyn SegmentationModel>>;

    /// A copy whose networks compute on `device`. It is a matter of the run: it is not written, and a copy that was
    /// written and read computes on the CPU.
    ///
    /// # Errors
    /// If the model has no form for the device.
    fn on(&self, device: &Device) -> Result<Box<dyn ModelConfig>> {
        match *device == Device::cpu() {
            true => Ok(self.boxed()),
            false => Err(Error::Setting(format!(
                "{}: expected a model with a form for it, found {}, which computes on the CPU in f32 alone",
                device.name(),
                self.typetag_name()
            ))),
        }
    }

    /// The decoder with this configuration's thresholds.
    fn decoder(&self) -> Box<dyn InstanceDecoder>;

    /// Decoders of further kinds of instances in the same maps (Mesmer's nuclei beside its cells), each with the
    /// name that its results bear.
    fn other_decoders(&self) -> Vec<(&'static str, Box<dyn InstanceDecoder>)> {
        Vec::new()
    }

    /// The decoder of maps whose image was prepared at `scale`; 1 where labels of the working image are wanted. For
    /// models whose maps hold lengths, or are not of the working image's size.
    fn decoder_at(&self, scale: f64) -> Box<dyn InstanceDecoder> {
        let _ = scale;
        self.decoder()
    }

    /// How strongly crops are degraded for the student by default: within what the network saw in its own training.
    fn perturb(&self) -> Perturb {
        Perturb::default()
    }

    /// How the model learns from labels.
    ///
    /// # Errors
    /// If it cannot, which is the default, or not with these settings.
    fn supervision(&self) -> Result<Box<dyn Supervision>> {
        Err(Error::Setting(format!(
            "a {} model cannot be trained from labels here",
            self.typetag_name()
        )))
    }

    /// Working pixels per image pixel.
    ///
    /// # Errors
    /// If the model cannot use this kind of sizing.
    fn working_scale(&self, sizing: Sizing) -> Result<f64>;

    /// A copy whose [`Sizing::Native`] is `sizing`, for the checkpoint of a model adapted at that size.
    ///
    /// # Errors
    /// If the model cannot use this kind of sizing.
    fn sized(&self, sizing: Sizing) -> Result<Box<dyn ModelConfig>> {
        self.working_scale(sizing)?;
        Ok(self.boxed())
    }

    /// The size model that lies beside the file of the model's weights, if its package has such a thing.
    ///
    /// # Errors
    /// If it is there and damaged, or belongs to another network.
    fn size_model(&self, weights: &Path) -> Result<Option<Box<dyn SizeModel>>> {
        let _ = weights;
        Ok(None)
    }

    /// Chooses channels, normalises, and rescales: an image at the working scale, `[C, H, W]` on the CPU.
    ///
    /// # Errors
    /// If the image lacks a channel that the model needs.
    fn prepare(&self, image: &Image, scale: f64) -> Result<Tensor>;

    /// As [`ModelConfig::prepare`], for an image too large to be prepared as a whole; reads it once from top to bottom to
    /// know its intensities. None where the model cannot do that.
    ///
    /// # Errors
    /// As [`ModelConfig::prepare`], and if the file is damaged.
    fn prepare_parts<'a>(
        &self,
        image: &'a mut dyn ImageParts,
        scale: f64,
    ) -> Result<Option<Box<dyn PreparedParts + 'a>>> {
        let _ = (image, scale);
        Ok(None)
    }

    /// The highest learning rate that suits the model where networks with norms learn at `usual`.
    fn learning_rate(&self, usual: f64) -> f64 {
        usual
    }

    /// A copy.
    fn boxed(&self) -> Box<dyn ModelConfig>;
}
