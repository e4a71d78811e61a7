//! A model whose flows and logits are the channels of the image: what is decoded is known, and parts can be compared.

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use ndarray::Array3;
use selfadapt_core::error::Result;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::image::Image;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, Mode, ModelConfig, SegmentationModel, Sizing, Window,
};
use selfadapt_core::params::Role;
use selfadapt_core::parts::{ImageParts, PreparedParts, Resized};
use selfadapt_core::resize::bilinear;
use selfadapt_models::cellpose::CellposeConfig;
use selfadapt_models::cellpose::decode::CellposeDecoder;
use serde::{Deserialize, Serialize};

/// A model whose flows and logits are the channels of the image, decoded as Cellpose's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mirror;

#[typetag::serde(name = "mirror")]
impl ModelConfig for Mirror {
    fn input(&self) -> InputSpec {
        InputSpec {
            channels: 3,
            divisor: 16,
            crop: 64,
            tile: 64,
            align: 1,
            grid: 1,
            margin: 8,
            overlap: 0.1,
            window: Window::Sigmoid {
                inset: 8.,
                softness: 2.,
            },
            mirrored: false,
        }
    }

    fn role(&self, _: &str) -> Role {
        Role::Weight
    }

    fn build(&self, _: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        let head = |name, channels, kind| Head {
            name,
            channels,
            kind,
        };
        Ok(Box::new(Mirrored([
            head("flow", 2, HeadKind::Regression(Equivariance::Vector)),
            head("cell", 1, HeadKind::Classification),
        ])))
    }

    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        Box::new(CellposeDecoder::new(CellposeConfig::default()))
    }

    fn working_scale(&self, _: Sizing) -> Result<f64> {
        Ok(1.)
    }

    fn prepare(&self, image: &Image, scale: f64) -> Result<Tensor> {
        let size = scaled(image.size(), scale);
        let mut pixels = Vec::new();
        for channel in image.pixels().outer_iter() {
            pixels.extend(bilinear(channel, size));
        }
        Ok(Tensor::from_vec(pixels, (3, size.0, size.1), &Device::Cpu)?)
    }

    fn prepare_parts<'a>(
        &self,
        image: &'a mut dyn ImageParts,
        scale: f64,
    ) -> Result<Option<Box<dyn PreparedParts + 'a>>> {
        let size = scaled(image.size(), scale);
        Ok(Some(Box::new(Resized {
            image,
            size,
            inputs: 3,
            channels: |pixels: Array3<f32>| {
                Ok(pixels
                    .outer_iter()
                    .map(|channel| channel.to_owned())
                    .collect())
            },
        })))
    }

    fn boxed(&self) -> Box<dyn ModelConfig> {
        Box::new(self.clone())
    }
}

fn scaled((height, width): (usize, usize), scale: f64) -> (usize, usize) {
    let scaled = |length: usize| (length as f64 * scale) as usize;
    (scaled(height), scaled(width))
}

struct Mirrored([Head; 2]);

impl SegmentationModel for Mirrored {
    fn heads(&self) -> &[Head] {
        &self.0
    }

    fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
        Ok(Prediction {
            heads: vec![images.narrow(1, 0, 2)?, images.narrow(1, 2, 1)?],
            embedding: images.mean((2, 3))?,
        })
    }
}
