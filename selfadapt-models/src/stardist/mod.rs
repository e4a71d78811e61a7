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
mod settings;
mod supervise;

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
use selfadapt_core::supervise::Supervision;

use decode::StarDistDecoder;
use net::StarNet;
pub use settings::{Activation, DistLoss, StarDistConfig};
use supervise::StarDistSupervision;

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

    fn supervision(&self) -> Result<Box<dyn Supervision>> {
        Ok(Box::new(StarDistSupervision::new(self)?))
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
