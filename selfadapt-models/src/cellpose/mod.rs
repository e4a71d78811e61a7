//! Cellpose 2 and 3 (Stringer et al. 2021, Pachitariu and Stringer 2022), after the package's release 3.1.1.

pub mod decode;
mod files;
mod fused_joins;
mod fused_levels;
mod fused_memory;
mod fused_net;
pub mod net;
mod parts;
mod prepare;
pub mod size;
mod supervise;

use std::path::Path;

use candle_core::Tensor;
use candle_nn::VarBuilder;
use selfadapt_core::diameter::SizeModel;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, ModelConfig, SegmentationModel, Sizing, Window,
};
use selfadapt_core::params::{Role, Stage};
use selfadapt_core::parts::{ImageParts, PreparedParts};
use selfadapt_core::supervise::Supervision;
use selfadapt_kernels::device::Device;
use serde::{Deserialize, Serialize};

use decode::CellposeDecoder;
use net::CpNet;

/// How a Cellpose model is built and used; the defaults are those of `CellposeModel.eval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CellposeConfig {
    /// Channels of the input (1 or 2), then of each level.
    pub nbase: Vec<usize>,
    /// The channel to segment (0 the mean of all, 1 the first, ...) and a second one with nuclei (0 none).
    /// As in Cellpose, the second is not used where the first is 0.
    pub channels: [usize; 2],
    /// Diameter in pixels to which the network's objects are scaled.
    pub diam_mean: f64,
    /// Mean diameter in pixels of the objects that the checkpoint was trained on, where it says so.
    pub diam_labels: Option<f64>,
    /// Whether objects are darker than their surroundings.
    pub invert: bool,
    /// Percentiles of each channel that become 0 and 1.
    pub percentiles: [f64; 2],
    /// Largest mean squared difference between a mask's own flows and the network's; 0 keeps all masks.
    pub flow_threshold: f64,
    /// Logit of the cell probability above which a pixel belongs to a cell.
    pub cellprob_threshold: f64,
    /// Pixels below which a mask is dropped.
    pub min_size: usize,
    /// Share of the image above which a mask is dropped.
    pub max_size_fraction: f64,
    /// Steps of flow following; where absent, 200 at the scale at which flows are followed.
    pub niter: Option<usize>,
    /// Whether flows are followed at the original size rather than at the working size.
    pub resample: bool,
    /// Whether flows are interpolated between pixels while they are followed.
    pub interp: bool,
    /// Whether masks that touch the image's edge are dropped.
    pub exclude_on_edges: bool,
    /// Whether tiles overlap by half and are mirrored in turn.
    pub augment: bool,
    /// Share of a tile that overlaps its neighbour, 0.05 to 0.5.
    pub tile_overlap: f64,
    /// What networks compute on: of this run, not of the model, so it is written nowhere.
    #[serde(skip)]
    pub device: Device,
}

impl Default for CellposeConfig {
    fn default() -> Self {
        Self {
            nbase: vec![2, 32, 64, 128, 256],
            channels: [0, 0],
            diam_mean: 30.,
            diam_labels: None,
            invert: false,
            percentiles: [1., 99.],
            flow_threshold: 0.4,
            cellprob_threshold: 0.,
            min_size: 15,
            max_size_fraction: 0.4,
            niter: None,
            resample: true,
            interp: true,
            exclude_on_edges: false,
            augment: false,
            tile_overlap: 0.1,
            device: Device::cpu(),
        }
    }
}

impl CellposeConfig {
    /// Refuses settings without meaning.
    ///
    /// # Errors
    /// Names the first setting that is out of range.
    pub fn check(&self) -> Result<()> {
        let [low, high] = self.percentiles;
        let faults = [
            (
                self.nbase.len() < 2
                    || !(1..=2).contains(&self.nbase[0])
                    || self.nbase.contains(&0),
                format!(
                    "nbase: expected 1 or 2 input channels, then those of each level, found {:?}",
                    self.nbase
                ),
            ),
            (
                !(self.diam_mean.is_finite() && self.diam_mean > 0.),
                format!(
                    "diam_mean: expected a diameter in pixels, found {}",
                    self.diam_mean
                ),
            ),
            (
                !(0. <= low && low < high && high <= 100.),
                format!("percentiles: expected 0 <= low < high <= 100, found {low} and {high}"),
            ),
            (
                !(0.05..=0.5).contains(&self.tile_overlap),
                format!(
                    "tile_overlap: expected 0.05 to 0.5, found {}",
                    self.tile_overlap
                ),
            ),
            (
                self.max_size_fraction.is_nan() || self.max_size_fraction <= 0.,
                format!(
                    "max_size_fraction: expected a share above 0, found {}",
                    self.max_size_fraction
                ),
            ),
            (
                self.flow_threshold.is_nan() || self.flow_threshold < 0.,
                format!(
                    "flow_threshold: expected 0 (off) or more, found {}",
                    self.flow_threshold
                ),
            ),
            (
                self.niter == Some(0),
                "niter: expected at least 1 step; leave it out for Cellpose's own number"
                    .to_owned(),
            ),
            (
                self.cellprob_threshold.is_nan(),
                "cellprob_threshold: expected a number".to_owned(),
            ),
        ];
        match faults.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, fault)) => Err(Error::Setting(fault)),
            None => Ok(()),
        }
    }

    /// What a named tensor of a checkpoint is for.
    pub fn role(name: &str) -> Role {
        let last = name.rsplit('.').next().unwrap_or(name);
        match last {
            "running_mean" | "running_var" | "num_batches_tracked" => Role::Buffer,
            "diam_mean" | "diam_labels" => Role::Constant,
            _ => Role::Weight,
        }
    }
}

#[typetag::serde(name = "cellpose")]
impl ModelConfig for CellposeConfig {
    fn input(&self) -> InputSpec {
        InputSpec {
            channels: self.nbase.first().copied().unwrap_or(0),
            divisor: 16,
            crop: supervise::CROP,
            tile: 224,
            align: 1,
            grid: 1,
            margin: 8,
            overlap: self.tile_overlap,
            window: Window::Sigmoid {
                inset: 20.,
                softness: 7.5,
            },
            mirrored: self.augment,
        }
    }

    fn role(&self, name: &str) -> Role {
        Self::role(name)
    }

    fn stage(&self, name: &str) -> Option<Stage> {
        Some(if name.starts_with("downsample.") {
            Stage::Encoder
        } else {
            Stage::Decoder
        })
    }

    fn build(&self, weights: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        self.check()?;
        let net = CpNet::load(&self.nbase, &weights)?;
        Ok(Box::new(net.on(self.device.clone())))
    }

    fn on(&self, device: &Device) -> Result<Box<dyn ModelConfig>> {
        Ok(Box::new(Self {
            device: device.clone(),
            ..self.clone()
        }))
    }

    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        Box::new(CellposeDecoder::new(self.clone()))
    }

    fn supervision(&self) -> Result<Box<dyn Supervision>> {
        Ok(Box::new(supervise::CellposeSupervision))
    }

    fn working_scale(&self, sizing: Sizing) -> Result<f64> {
        let diameter = match sizing {
            Sizing::Diameter(diameter) => diameter,
            Sizing::Native => self.diam_labels.ok_or_else(|| {
                Error::Setting(
                    "the checkpoint does not say the diameter of its training objects: give a diameter".into(),
                )
            })?,
            Sizing::PixelSize(_) => {
                return Err(Error::Setting(
                    "Cellpose scales images by the objects' diameter in pixels, not by the pixel size: \
                     give a diameter"
                        .into(),
                ));
            }
        };
        if diameter.is_finite() && diameter > 0. {
            Ok(self.diam_mean / diameter)
        } else {
            Err(Error::Setting(format!(
                "diameter: expected a positive number of pixels, found {diameter}"
            )))
        }
    }

    fn sized(&self, sizing: Sizing) -> Result<Box<dyn ModelConfig>> {
        let mut sized = self.clone();
        sized.diam_labels = Some(self.diam_mean / self.working_scale(sizing)?);
        Ok(Box::new(sized))
    }

    fn size_model(&self, weights: &Path) -> Result<Option<Box<dyn SizeModel>>> {
        Ok(match size::StyleSize::beside(weights, self)? {
            Some(found) => Some(Box::new(found)),
            None => None,
        })
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
    fn a_configuration_needs_no_more_than_its_name() {
        let config: Box<dyn ModelConfig> =
            serde_json::from_str(r#"{"model": "cellpose"}"#).unwrap();
        assert_eq!(config.input().channels, 2);
        let written = serde_json::to_string(&config).unwrap();
        let again: Box<dyn ModelConfig> = serde_json::from_str(&written).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), written);
        let parse = serde_json::from_str::<Box<dyn ModelConfig>>;
        let error = parse(r#"{"model": "cellpose", "diameter": 3}"#).unwrap_err();
        assert!(
            error.to_string().contains("unknown field `diameter`"),
            "{error}"
        );
    }

    #[test]
    fn the_scale_follows_the_diameter() {
        let config = CellposeConfig::default();
        assert_eq!(config.working_scale(Sizing::Diameter(20.)).unwrap(), 1.5);
        let say = |sizing| config.working_scale(sizing).unwrap_err().to_string();
        assert!(say(Sizing::Native).contains("give a diameter"));
        assert!(say(Sizing::PixelSize(0.5)).contains("give a diameter"));
        assert!(say(Sizing::Diameter(0.)).contains("positive"));
        assert!(say(Sizing::Diameter(f64::NAN)).contains("positive"));
        let sized = config.sized(Sizing::Diameter(20.)).unwrap();
        assert_eq!(sized.working_scale(Sizing::Native).unwrap(), 1.5);
    }

    #[test]
    fn settings_without_meaning_are_named() {
        let usual = CellposeConfig::default();
        assert!(usual.check().is_ok());
        let faults = [
            (
                CellposeConfig {
                    nbase: vec![2],
                    ..usual.clone()
                },
                "nbase",
            ),
            (
                CellposeConfig {
                    nbase: vec![3, 32],
                    ..usual.clone()
                },
                "nbase",
            ),
            (
                CellposeConfig {
                    diam_mean: 0.,
                    ..usual.clone()
                },
                "diam_mean",
            ),
            (
                CellposeConfig {
                    percentiles: [99., 1.],
                    ..usual.clone()
                },
                "percentiles",
            ),
            (
                CellposeConfig {
                    tile_overlap: 0.7,
                    ..usual.clone()
                },
                "tile_overlap",
            ),
            (
                CellposeConfig {
                    max_size_fraction: f64::NAN,
                    ..usual.clone()
                },
                "max_size_fraction",
            ),
            (
                CellposeConfig {
                    flow_threshold: -1.,
                    ..usual.clone()
                },
                "flow_threshold",
            ),
            (
                CellposeConfig {
                    niter: Some(0),
                    ..usual.clone()
                },
                "niter",
            ),
            (
                CellposeConfig {
                    cellprob_threshold: f64::NAN,
                    ..usual
                },
                "cellprob_threshold",
            ),
        ];
        for (config, name) in faults {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
