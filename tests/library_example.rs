//! SelfAdapt as a library: any model, any source of images, from pretrained weights to an instance image.

use candle_core::{Device, Tensor};
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::adapt::config::AdaptConfig;
use selfadapt_core::crops::CropSampler;
use selfadapt_core::error::Result;
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::labels::Labels;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;
use selfadapt_core::source::ImageSource;

/// Ten steps on crops of `images`, then the instances of the first image.
pub fn adapt_and_segment(
    model: &dyn ModelConfig,
    pretrained: &ParamSet,
    images: &dyn ImageSource,
) -> Result<Labels> {
    let config = AdaptConfig {
        steps: 10,
        batch: 2,
        crop: model.input().crop,
        ..AdaptConfig::default()
    };
    let mut adapting = AdaptLoop::new(model, pretrained, &config)?;
    let sampler = CropSampler {
        side: config.crop,
        batch: config.batch,
    };
    while adapting.steps_taken() < config.steps {
        let crops = adapting.draw(&sampler, images)?;
        let report = adapting.step(&crops)?;
        println!("step {}: loss {:.4}", report.step, report.loss);
    }
    // The moving average is steadier than the network that learns.
    let network = &adapting.teacher.network;
    let image = images.prepared(0)?;
    let (_, height, width) = image.dims3()?;
    let maps = predict(network, &model.input(), &image, InferOptions::default())?;
    model.decoder().decode(&maps, (height, width))
}

/// Images that are made rather than read: anything that gives `[C, H, W]` will do.
struct Waves;

impl ImageSource for Waves {
    fn len(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        format!("wave {index}")
    }

    fn prepared(&self, index: usize) -> Result<Tensor> {
        let wave = |i: usize| {
            let (row, column) = ((i / 40) as f32, (i % 40) as f32);
            (row * (0.3 + 0.1 * index as f32)).sin() * (column * 0.4).cos()
        };
        let pixels: Vec<f32> = (0..48 * 40).map(wave).collect();
        Ok(Tensor::from_vec(pixels, (1, 48, 40), &Device::Cpu)?)
    }
}

#[test]
fn the_example_of_the_book_runs() {
    let model = crate::toy::ToyConfig { threshold: 0.5 };
    let labels = adapt_and_segment(&model, &crate::toy::weights(), &Waves).unwrap();
    assert_eq!(labels.size(), (48, 40));
    assert!(labels.count() > 0);
}
