//! StarDist 2D (Schmidt et al. 2018, Weigert et al. 2020), after the package's release 0.9.1.

pub mod decode;
mod files;
mod fused_net;
mod fused_tape;
mod keras;
pub mod net;
mod official;
mod ours;
mod parts;
mod plan;
mod prepare;

use std::collections::BTreeMap;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, ModelConfig, SegmentationModel, Sizing, Window,
};
use selfadapt_core::params::{Role, Stage};
use selfadapt_core::parts::{ImageParts, PreparedParts};
use selfadapt_core::perturb::Perturb;
use serde::{Deserialize, Serialize};

use decode::StarDistDecoder;
use net::StarNet;

/// What follows a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// The larger of 0 and x.
    Relu,
    /// x above 0, exp(x) - 1 below.
    Elu,
    /// Nothing.
    Linear,
}

/// How a StarDist model is built and used. Names up to `net_conv_after_unet` are those of the package's config.json, and
/// so are the defaults, but for `grid`, which is that of the published models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StarDistConfig {
    /// Directions along which distances are predicted.
    pub n_rays: usize,
    /// Pixels between predictions: 1, 2, 4, ...
    pub grid: usize,
    /// Channels of the input.
    pub n_channel_in: usize,
    /// Levels of the U-Net.
    pub unet_n_depth: usize,
    /// Side of its kernels, odd.
    pub unet_kernel_size: usize,
    /// Channels of its first level, doubled at each following one.
    pub unet_n_filter_base: usize,
    /// Convolutions in a level.
    pub unet_n_conv_per_depth: usize,
    /// By how much a level is smaller than the one before: 2, 4, ...
    pub unet_pool: usize,
    /// What follows a convolution.
    pub unet_activation: Activation,
    /// What follows the last one of the U-Net.
    pub unet_last_activation: Activation,
    /// Whether batch norm follows each convolution of the U-Net.
    pub unet_batch_norm: bool,
    /// What the names of the U-Net's layers begin with.
    pub unet_prefix: String,
    /// Channels of the convolution between the U-Net and the heads; 0 for none.
    pub net_conv_after_unet: usize,
    /// Object probability above which a pixel proposes an object.
    pub prob_thresh: f64,
    /// Share of the smaller of two objects that may lie in the other.
    pub nms_thresh: f64,
    /// Percentiles of the image that become 0 and 1.
    pub percentiles: [f64; 2],
    /// Whether these are taken over all channels together (as `stardist-predict2d` does) or of each one.
    pub normalise_jointly: bool,
    /// Which channels of the image are the network's, counted from 1; empty for all, in their order.
    pub channels: Vec<usize>,
    /// By how much images are enlarged for the network (`scale` of `predict_instances`), where no diameter is given.
    pub scale: f64,
    /// Mean diameter in pixels of the objects that the network was trained on, to which a given diameter is scaled. The
    /// package does not record it; the default is that of DSB 2018, which the published fluorescence models saw.
    pub trained_diameter: f64,
    /// Side of the patches that the network was trained on, in pixels.
    pub patch: usize,
    /// Other entries of config.json, as JSON: they do not shape the network and are written back as they were.
    pub others: BTreeMap<String, String>,
}

impl Default for StarDistConfig {
    fn default() -> Self {
        Self {
            n_rays: 32,
            grid: 2,
            n_channel_in: 1,
            unet_n_depth: 3,
            unet_kernel_size: 3,
            unet_n_filter_base: 32,
            unet_n_conv_per_depth: 2,
            unet_pool: 2,
            unet_activation: Activation::Relu,
            unet_last_activation: Activation::Relu,
            unet_batch_norm: false,
            unet_prefix: String::new(),
            net_conv_after_unet: 128,
            prob_thresh: 0.5,
            nms_thresh: 0.4,
            percentiles: [1., 99.8],
            normalise_jointly: true,
            channels: Vec::new(),
            scale: 1.,
            trained_diameter: 22.,
            patch: 256,
            others: BTreeMap::new(),
        }
    }
}

impl StarDistConfig {
    /// Refuses settings without meaning.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        let [low, high] = self.percentiles;
        let power = |value: usize, most: usize| value.is_power_of_two() && value <= most;
        let faults = [
            (
                !(3..=1024).contains(&self.n_rays),
                format!("n_rays: expected 3 to 1024, found {}", self.n_rays),
            ),
            (
                !power(self.grid, 64),
                format!("grid: expected 1, 2, 4, ... 64, found {}", self.grid),
            ),
            (
                !(1..=64).contains(&self.n_channel_in),
                format!(
                    "n_channel_in: expected 1 to 64, found {}",
                    self.n_channel_in
                ),
            ),
            (
                !(1..=8).contains(&self.unet_n_depth),
                format!("unet_n_depth: expected 1 to 8, found {}", self.unet_n_depth),
            ),
            (
                self.unet_kernel_size.is_multiple_of(2) || self.unet_kernel_size > 15,
                format!(
                    "unet_kernel_size: expected an odd side up to 15, found {}",
                    self.unet_kernel_size
                ),
            ),
            (
                !(1..=1024).contains(&self.unet_n_filter_base),
                format!(
                    "unet_n_filter_base: expected 1 to 1024, found {}",
                    self.unet_n_filter_base
                ),
            ),
            (
                !(1..=16).contains(&self.unet_n_conv_per_depth),
                format!(
                    "unet_n_conv_per_depth: expected 1 to 16, found {}",
                    self.unet_n_conv_per_depth
                ),
            ),
            (
                !power(self.unet_pool, 8) || self.unet_pool == 1,
                format!("unet_pool: expected 2, 4 or 8, found {}", self.unet_pool),
            ),
            (
                self.net_conv_after_unet > 4096,
                format!(
                    "net_conv_after_unet: expected 0 to 4096, found {}",
                    self.net_conv_after_unet
                ),
            ),
            (
                !(self.prob_thresh > 0. && self.prob_thresh < 1.),
                format!(
                    "prob_thresh: expected more than 0 and less than 1, found {}",
                    self.prob_thresh
                ),
            ),
            (
                !(self.nms_thresh > 0. && self.nms_thresh <= 1.),
                format!(
                    "nms_thresh: expected more than 0 and at most 1, found {}",
                    self.nms_thresh
                ),
            ),
            (
                !(0. <= low && low < high && high <= 100.),
                format!("percentiles: expected 0 <= low < high <= 100, found {low} and {high}"),
            ),
            (
                self.channels.contains(&0)
                    || !(self.channels.is_empty() || self.channels.len() == self.n_channel_in),
                format!(
                    "channels: expected {} numbers counted from 1, or none, found {:?}",
                    self.n_channel_in, self.channels
                ),
            ),
            (
                !(self.scale > 0. && self.scale.is_finite()),
                format!("scale: expected a positive number, found {}", self.scale),
            ),
            (
                !(self.trained_diameter > 0. && self.trained_diameter.is_finite()),
                format!(
                    "trained_diameter: expected a positive number of pixels, found {}",
                    self.trained_diameter
                ),
            ),
        ];
        match faults.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, fault)) => Err(Error::Setting(fault)),
            None => Ok(()),
        }
    }

    /// What the height and width of the network's input are multiples of.
    pub fn divisor(&self) -> usize {
        self.grid * self.unet_pool.pow(self.unet_n_depth as u32)
    }

    /// Pixels to each side that a prediction can depend on.
    fn reach(&self) -> usize {
        let (half, count) = (self.unet_kernel_size / 2, self.unet_n_conv_per_depth);
        let before: usize = (0..self.grid.trailing_zeros())
            .map(|n| (half * count) << n)
            .sum();
        let level = |n: usize| self.grid * self.unet_pool.pow(n as u32);
        let levels: usize = (0..self.unet_n_depth)
            .map(|n| 2 * half * count * level(n))
            .sum();
        let deepest = level(self.unet_n_depth);
        // The last term: where pooled blocks begin.
        before + levels + half * count * deepest + half * self.grid + deepest
    }

    /// What a named parameter is for.
    pub fn role(name: &str) -> Role {
        match name.rsplit('.').next().unwrap_or(name) {
            "running_mean" | "running_var" | "num_batches_tracked" => Role::Buffer,
            _ => Role::Weight,
        }
    }
}

#[typetag::serde(name = "stardist")]
impl ModelConfig for StarDistConfig {
    fn input(&self) -> InputSpec {
        let (divisor, reach) = (self.divisor(), self.reach());
        InputSpec {
            channels: self.n_channel_in,
            divisor,
            crop: self.patch.next_multiple_of(divisor).max(divisor),
            // Two tiles share over a quarter, which must cover twice the reach: then tiling changes nothing.
            tile: (8 * reach).max(1024).next_multiple_of(divisor),
            align: divisor,
            grid: self.grid,
            margin: 0,
            overlap: 0.2,
            window: Window::Sigmoid {
                inset: (reach / self.grid) as f64,
                softness: (reach / self.grid) as f64 / 24.,
            },
            mirrored: false,
        }
    }

    fn role(&self, name: &str) -> Role {
        Self::role(name)
    }

    fn stage(&self, name: &str) -> Option<Stage> {
        let decoder = ["up_level_", "features", "prob", "dist"];
        let layer = name.strip_prefix(&self.unet_prefix).unwrap_or(name);
        Some(if decoder.iter().any(|part| layer.starts_with(part)) {
            Stage::Decoder
        } else {
            Stage::Encoder
        })
    }

    fn build(&self, weights: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        self.check()?;
        Ok(Box::new(StarNet::load(self, &weights)?))
    }

    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        Box::new(StarDistDecoder::new(self.clone()))
    }

    fn decoder_at(&self, scale: f64) -> Box<dyn InstanceDecoder> {
        Box::new(StarDistDecoder::new(Self {
            scale,
            ..self.clone()
        }))
    }

    /// Training as the package's examples show it adds noise of 0.02 at most. With more, distances shrink step by step:
    /// the network has no norms, is misled by noise, and learns to make up for it. See docs/models/stardist.md.
    fn perturb(&self) -> Perturb {
        Perturb {
            noise: 0.02,
            ..Perturb::default()
        }
    }

    fn working_scale(&self, sizing: Sizing) -> Result<f64> {
        match sizing {
            Sizing::Native => Ok(self.scale),
            Sizing::Diameter(diameter) if diameter.is_finite() && diameter > 0. => {
                Ok(self.trained_diameter / diameter)
            }
            Sizing::Diameter(diameter) => Err(Error::Setting(format!(
                "diameter: expected a positive number of pixels, found {diameter}"
            ))),
            Sizing::PixelSize(_) => Err(Error::Setting(
                "StarDist does not know the pixel size of its training images: give a diameter, or set `scale`"
                    .into(),
            )),
        }
    }

    fn sized(&self, sizing: Sizing) -> Result<Box<dyn ModelConfig>> {
        let scale = self.working_scale(sizing)?;
        Ok(Box::new(Self {
            scale,
            ..self.clone()
        }))
    }

    fn prepare(&self, image: &Image, scale: f64) -> Result<Tensor> {
        prepare::prepare(self, image, scale)
    }

    fn prepare_parts<'a>(
        &self,
        image: &'a mut dyn ImageParts,
        scale: f64,
    ) -> Result<Option<Box<dyn PreparedParts + 'a>>> {
        Ok(Some(parts::prepare(self, image, scale)?))
    }

    fn boxed(&self) -> Box<dyn ModelConfig> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_set_or_follows_the_diameter() {
        let config = StarDistConfig {
            scale: 0.8,
            trained_diameter: 20.,
            ..StarDistConfig::default()
        };
        assert_eq!(config.working_scale(Sizing::Native).unwrap(), 0.8);
        assert_eq!(config.working_scale(Sizing::Diameter(40.)).unwrap(), 0.5);
        let say = |sizing| config.working_scale(sizing).unwrap_err().to_string();
        assert!(say(Sizing::PixelSize(0.5)).contains("give a diameter"));
        assert!(say(Sizing::Diameter(-1.)).contains("positive"));
        assert!(say(Sizing::Diameter(f64::NAN)).contains("positive"));
        // What is delivered after an adaptation at 40 pixels works at that scale by itself.
        let sized = config.sized(Sizing::Diameter(40.)).unwrap();
        assert_eq!(sized.working_scale(Sizing::Native).unwrap(), 0.5);
    }
}
