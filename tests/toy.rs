//! A model in one file, written in plain candle: what a plug-in author writes, and proof that nothing needs Cellpose.

use candle_core::{Module, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, VarBuilder};
use ndarray::Array2;
use selfadapt_core::error::Result;
use selfadapt_core::foreground::Foreground;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::image::Image;
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, Mode, ModelConfig, SegmentationModel, Sizing, Window,
};
use selfadapt_core::params::{ParamSet, Role};

/// A two-layer network with one head of each kind.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToyConfig {
    /// Pixels with a higher probability are objects.
    pub threshold: f64,
}

const HEADS: [Head; 3] = [
    Head {
        name: "probability",
        channels: 1,
        kind: HeadKind::Classification,
    },
    Head {
        name: "flows",
        channels: 2,
        kind: HeadKind::Regression(Equivariance::Vector),
    },
    Head {
        name: "rays",
        channels: 8,
        kind: HeadKind::Regression(Equivariance::Rays),
    },
];
const WIDTH: usize = 6;

#[typetag::serde(name = "toy")]
impl ModelConfig for ToyConfig {
    fn input(&self) -> InputSpec {
        InputSpec {
            channels: 1,
            divisor: 4,
            crop: 32,
            tile: 32,
            align: 1,
            grid: 1,
            margin: 0,
            overlap: 0.1,
            window: Window::Sigmoid {
                inset: 4.,
                softness: 2.,
            },
            mirrored: false,
        }
    }

    fn role(&self, _: &str) -> Role {
        Role::Weight
    }

    fn build(&self, weights: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        let same = Conv2dConfig {
            padding: 1,
            ..Conv2dConfig::default()
        };
        Ok(Box::new(Toy {
            first: candle_nn::conv2d(1, WIDTH, 3, same, weights.pp("first"))?,
            last: candle_nn::conv2d(WIDTH, 11, 3, same, weights.pp("last"))?,
        }))
    }

    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        Box::new(self.clone())
    }

    fn working_scale(&self, _: Sizing) -> Result<f64> {
        Ok(1.)
    }

    fn prepare(&self, image: &Image, _: f64) -> Result<Tensor> {
        let (height, width) = image.size();
        let pixels: Vec<f32> = image
            .pixels()
            .iter()
            .take(height * width)
            .copied()
            .collect();
        Ok(Tensor::from_vec(
            pixels,
            (1, height, width),
            &candle_core::Device::Cpu,
        )?)
    }

    fn boxed(&self) -> Box<dyn ModelConfig> {
        Box::new(self.clone())
    }
}

struct Toy {
    first: Conv2d,
    last: Conv2d,
}

impl SegmentationModel for Toy {
    fn heads(&self) -> &[Head] {
        &HEADS
    }

    fn foreground(&self) -> Option<Foreground> {
        Some(Foreground {
            head: 0,
            bias: "last.bias",
            index: 0,
        })
    }

    fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
        let features = self.first.forward(images)?.tanh()?;
        let maps = self.last.forward(&features)?;
        Ok(Prediction {
            heads: vec![
                maps.narrow(1, 0, 1)?,
                maps.narrow(1, 1, 2)?,
                maps.narrow(1, 3, 8)?,
            ],
            embedding: features
                .mean(candle_core::D::Minus1)?
                .mean(candle_core::D::Minus1)?,
        })
    }
}

impl InstanceDecoder for ToyConfig {
    fn decode(&self, prediction: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
        let logits = prediction.heads[0].flatten_all()?.to_vec1::<f32>()?;
        let foreground = image_of(height, width, |row, column| {
            1. / (1. + (-f64::from(logits[row * width + column])).exp()) > self.threshold
        });
        let regions = imageproc::region_labelling::connected_components(
            &foreground,
            imageproc::region_labelling::Connectivity::Four,
            image::Luma([0u8]),
        );
        let rows = Array2::from_shape_fn((height, width), |(row, column)| {
            regions.get_pixel(column as u32, row as u32)[0]
        });
        Ok(Labels::new(rows))
    }
}

fn image_of(
    height: usize,
    width: usize,
    inside: impl Fn(usize, usize) -> bool,
) -> image::GrayImage {
    image::GrayImage::from_fn(width as u32, height as u32, |column, row| {
        image::Luma([if inside(row as usize, column as usize) {
            255
        } else {
            0
        }])
    })
}

/// Small weights that depend on nothing but the name and the position.
pub fn weights() -> ParamSet {
    let numbers = |n: usize, phase: f32| -> Vec<f32> {
        (0..n)
            .map(|i| 0.4 * (i as f32 * 0.7 + phase).sin())
            .collect()
    };
    let tensor = |shape: &[usize], phase: f32| {
        let n = shape.iter().product();
        Tensor::from_vec(numbers(n, phase), shape, &candle_core::Device::Cpu).unwrap()
    };
    ParamSet::new(
        [
            ("first.weight".to_owned(), tensor(&[WIDTH, 1, 3, 3], 0.1)),
            ("first.bias".to_owned(), tensor(&[WIDTH], 0.2)),
            ("last.weight".to_owned(), tensor(&[11, WIDTH, 3, 3], 0.3)),
            ("last.bias".to_owned(), tensor(&[11], 0.4)),
        ],
        |_| Role::Weight,
    )
    .unwrap()
}
