//! Mesmer (Greenwald et al. 2022): PanopticNet on a nuclear and a membrane channel, after deepcell 0.12.

pub mod decode;
mod fast;
mod files;
mod names;
pub mod net;
mod plan;
mod prepare;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, ModelConfig, SegmentationModel, Sizing, Window,
};
use selfadapt_core::params::{Role, Stage};
use serde::{Deserialize, Serialize};

use decode::{Compartment, MesmerDecoder};
use net::PanopticNet;

/// Micrometres a pixel at which the network works.
pub const MICROMETRES: f64 = 0.5;

/// The name under which the ONNX file that a model came from is carried along, without its weights.
const SKELETON: &str = "onnx";

/// Which compartments to segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compartments {
    /// Whole cells.
    WholeCell,
    /// Nuclei.
    Nuclear,
    /// Whole cells, and nuclei beside them.
    Both,
}

/// How a Mesmer model is built and used. Defaults are those of the published network and of `Mesmer.predict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MesmerConfig {
    /// Channels of the stem; those of a stage are four times as many, doubled at each following one.
    pub filters: usize,
    /// Residual blocks of the four stages.
    pub blocks: [usize; 4],
    /// Channels of the feature pyramid.
    pub pyramid: usize,
    /// Channels of a semantic head while it is upsampled.
    pub semantic: usize,
    /// Channels of a semantic head before its last layer.
    pub dense: usize,
    /// Side of the network's input in pixels.
    pub tile: usize,
    /// The nuclear and the membrane channel of an image, counted from 1; 0 for a channel that is not there.
    pub channels: [usize; 2],
    /// Width of an image pixel in micrometres, where it is known.
    pub pixel_size: Option<f64>,
    /// Of a channel's pixels that are not 0, the percentile at which brighter ones are cut off.
    pub percentile: f64,
    /// Side of the regions whose histograms are equalised (CLAHE), in working pixels.
    pub clahe: usize,
    /// What to segment.
    pub compartment: Compartments,
    /// By how much a peak of the whole-cell distance must stand out to be a cell.
    pub whole_cell_maxima: f64,
    /// By how much a peak of the nuclear distance must stand out to be a nucleus.
    pub nuclear_maxima: f64,
    /// Smoothed interior probability above which a pixel belongs to an object.
    pub interior_threshold: f64,
    /// Standard deviation of the smoothing, in working pixels.
    pub interior_smooth: f64,
    /// Radius within which pixels count as neighbours of a peak, in working pixels.
    pub radius: usize,
    /// Working pixels below which an object is dropped.
    pub min_size: usize,
    /// Working pixels below which a hole is filled.
    pub fill_holes: usize,
}

impl Default for MesmerConfig {
    fn default() -> Self {
        Self {
            filters: 64,
            blocks: [3, 4, 6, 3],
            pyramid: 256,
            semantic: 64,
            dense: 128,
            tile: 256,
            channels: [1, 2],
            pixel_size: None,
            percentile: 99.9,
            clahe: 128,
            compartment: Compartments::WholeCell,
            whole_cell_maxima: 0.075,
            nuclear_maxima: 0.1,
            interior_threshold: 0.2,
            interior_smooth: 2.,
            radius: 2,
            min_size: 15,
            fill_holes: 15,
        }
    }
}

impl MesmerConfig {
    /// What the sides of the network's input are multiples of: it halves them five times.
    pub const DIVISOR: usize = 32;

    /// Refuses settings without meaning.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        let refuse = |name: &str, expected: &str, found: &dyn std::fmt::Debug| {
            Err(Error::Setting(format!(
                "{name}: expected {expected}, found {found:?}"
            )))
        };
        for (name, value) in [
            ("filters", self.filters),
            ("pyramid", self.pyramid),
            ("semantic", self.semantic),
            ("dense", self.dense),
        ] {
            if !(1..=4096).contains(&value) {
                return refuse(name, "1 to 4096", &value);
            }
        }
        if self.blocks.iter().any(|blocks| !(1..=64).contains(blocks)) {
            return refuse("blocks", "four numbers from 1 to 64", &self.blocks);
        }
        if self.tile == 0 || !self.tile.is_multiple_of(Self::DIVISOR) || self.tile > 8192 {
            return refuse("tile", "a multiple of 32 up to 8192", &self.tile);
        }
        if self.channels == [0, 0] {
            return refuse("channels", "at least one that is there", &self.channels);
        }
        if let Some(size) = self.pixel_size {
            working_scale(size)?;
        }
        if !(self.percentile > 0. && self.percentile <= 100.) {
            return refuse(
                "percentile",
                "more than 0 and at most 100",
                &self.percentile,
            );
        }
        if !(2..=8192).contains(&self.clahe) {
            return refuse("clahe", "2 to 8192", &self.clahe);
        }
        for (name, value) in [
            ("whole_cell_maxima", self.whole_cell_maxima),
            ("nuclear_maxima", self.nuclear_maxima),
        ] {
            if !(value > 0. && value.is_finite()) {
                return refuse(name, "a positive number", &value);
            }
        }
        if !self.interior_threshold.is_finite() {
            return refuse("interior_threshold", "a number", &self.interior_threshold);
        }
        if !(0. ..=100.).contains(&self.interior_smooth) {
            return refuse("interior_smooth", "0 to 100", &self.interior_smooth);
        }
        if !(1..=64).contains(&self.radius) {
            return refuse("radius", "1 to 64", &self.radius);
        }
        Ok(())
    }

    /// What a named parameter is for.
    pub fn role(name: &str) -> Role {
        match name.rsplit('.').next().unwrap_or(name) {
            "running_mean" | "running_var" | "num_batches_tracked" => Role::Buffer,
            SKELETON => Role::Constant,
            _ => Role::Weight,
        }
    }
}

/// Working pixels per image pixel of `micrometres` each.
fn working_scale(micrometres: f64) -> Result<f64> {
    if micrometres > 0. && micrometres.is_finite() {
        return Ok(micrometres / MICROMETRES);
    }
    Err(Error::Setting(format!(
        "pixel size: expected a positive number of micrometres, found {micrometres}"
    )))
}

#[typetag::serde(name = "mesmer")]
impl ModelConfig for MesmerConfig {
    fn input(&self) -> InputSpec {
        InputSpec {
            channels: 2,
            divisor: Self::DIVISOR,
            crop: self.tile,
            tile: self.tile,
            align: 1,
            grid: 1,
            margin: 0,
            overlap: 0.25,
            window: Window::Spline,
            mirrored: false,
        }
    }

    fn role(&self, name: &str) -> Role {
        Self::role(name)
    }

    fn stage(&self, name: &str) -> Option<Stage> {
        // What reduces the backbone's maps, the pyramid, and the heads; the rest is the backbone.
        let decoder =
            name.contains("_reduced") || name.contains("semantic") || name.starts_with("P3");
        Some(if decoder {
            Stage::Decoder
        } else {
            Stage::Encoder
        })
    }

    fn build(&self, weights: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        self.check()?;
        Ok(Box::new(PanopticNet::load(self, &weights)?))
    }

    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        let compartment = match self.compartment {
            Compartments::Nuclear => Compartment::Nuclear,
            Compartments::WholeCell | Compartments::Both => Compartment::WholeCell,
        };
        Box::new(MesmerDecoder::new(self.clone(), compartment))
    }

    fn other_decoders(&self) -> Vec<(&'static str, Box<dyn InstanceDecoder>)> {
        if self.compartment != Compartments::Both {
            return Vec::new();
        }
        let nuclei = MesmerDecoder::new(self.clone(), Compartment::Nuclear);
        let nuclei: Box<dyn InstanceDecoder> = Box::new(nuclei);
        vec![("nuclear", nuclei)]
    }

    fn working_scale(&self, sizing: Sizing) -> Result<f64> {
        match (sizing, self.pixel_size) {
            (Sizing::PixelSize(size), _) | (Sizing::Native, Some(size)) => working_scale(size),
            (Sizing::Native, None) => Err(Error::Setting(format!(
                "Mesmer works at {MICROMETRES} micrometres a pixel and must know how wide a pixel of the images is: \
                 give --pixel-size ({MICROMETRES} leaves images as they are)"
            ))),
            (Sizing::Diameter(_), _) => Err(Error::Setting(
                "Mesmer works at a fixed resolution and knows no diameters: give --pixel-size in micrometres instead"
                    .into(),
            )),
        }
    }

    fn sized(&self, sizing: Sizing) -> Result<Box<dyn ModelConfig>> {
        let scale = self.working_scale(sizing)?;
        Ok(Box::new(Self {
            pixel_size: Some(scale * MICROMETRES),
            ..self.clone()
        }))
    }

    /// 1e-5 for 3e-4, which is what Mesmer was trained with. Its norms are folded into the convolutions, and so nothing
    /// evens out what larger steps do: see docs/models/mesmer.md.
    fn learning_rate(&self, usual: f64) -> f64 {
        usual / 30.
    }

    fn prepare(&self, image: &Image, scale: f64) -> Result<Tensor> {
        self.check()?;
        prepare::prepare(self, image, scale)
    }

    fn boxed(&self) -> Box<dyn ModelConfig> {
        Box::new(self.clone())
    }
}
