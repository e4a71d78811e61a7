//! How a StarDist model is built, used and taught.

use std::collections::BTreeMap;

use selfadapt_core::error::{Error, Result};
use selfadapt_core::params::Role;
use serde::{Deserialize, Serialize};

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

/// What a wrong distance costs in training; see [`selfadapt_kernels::star_loss::Penalty`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DistLoss {
    /// Its absolute value.
    Mae,
    /// Its square.
    Mse,
    /// What two polygons' intersection over union lacks to 1.
    Iou,
}

/// How a StarDist model is built, used and taught. Names up to `net_conv_after_unet` and those that begin with `train_`
/// are those of the package's config.json, and so are the defaults, but for `grid`, which is that of the published models.
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
    /// Training: what a wrong distance costs.
    pub train_dist_loss: DistLoss,
    /// Training: weights of the losses of probability and of distances.
    pub train_loss_weights: [f64; 2],
    /// Training: how strongly distances on background are pulled to 0.
    pub train_background_reg: f64,
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
            train_dist_loss: DistLoss::Mae,
            train_loss_weights: [1., 0.2],
            train_background_reg: 1e-4,
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
        let weight = |value: f64| value >= 0. && value.is_finite();
        let weights = self.train_loss_weights;
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
                !weights.into_iter().all(weight) || weights == [0., 0.],
                format!(
                    "train_loss_weights: expected two numbers from 0 up, not both 0, found {weights:?}"
                ),
            ),
            (
                !weight(self.train_background_reg),
                format!(
                    "train_background_reg: expected 0 or a positive number, found {}",
                    self.train_background_reg
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
    pub(super) fn reach(&self) -> usize {
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
