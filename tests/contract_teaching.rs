//! What every registered model must do that can be trained from labels.

use ndarray::{Array2, Array3};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::labels::Labels;
use selfadapt_core::supervise::Example;
use selfadapt_core::supervise::config::TrainConfig;
use selfadapt_core::supervise::train::TrainLoop;

use crate::contract::{models, norm, weights};

/// Bright discs on a dark ground, with their labels.
fn discs(channels: usize, side: usize) -> (Image, Labels) {
    let labels = Array2::from_shape_fn((side, side), |(y, x)| {
        let place = (y / 16, x / 16);
        let (dy, dx) = ((y % 16) as f64 - 7.5, (x % 16) as f64 - 7.5);
        let inside = dy.hypot(dx) < 6.;
        u32::from(inside) * (place.0 * side.div_ceil(16) + place.1 + 1) as u32
    });
    let pixels = Array3::from_shape_fn((channels, side, side), |(c, y, x)| {
        let ripple = ((y * 13 + x * 29 + c) % 11) as f32;
        ripple + if labels[[y, x]] == 0 { 20. } else { 80. }
    });
    let image = Image::new(pixels, PixelType::U8).unwrap();
    (image, Labels::new(labels))
}

#[test]
fn a_model_that_can_be_taught_learns_from_labels_with_every_filter() {
    let mut taught = 0;
    for (name, config) in models() {
        let teaching = match config.supervision() {
            Ok(teaching) => teaching,
            Err(reason) => {
                let reason = reason.to_string();
                assert!(reason.contains("cannot be trained from labels"), "{reason}");
                continue;
            }
        };
        taught += 1;
        let input = config.input();
        for from_scratch in [false, true] {
            let defaults = teaching.defaults(from_scratch);
            defaults.check(config.as_ref()).unwrap();
            assert_eq!(defaults.crop, input.crop, "{name}");
        }
        let settings = TrainConfig {
            crop: input.divisor.max(32),
            batch: 2,
            crops_per_epoch: 2,
            ..teaching.defaults(true)
        };
        let (image, labels) = discs(input.channels.min(2), 2 * settings.crop);
        let example = Example::new(config.as_ref(), teaching.as_ref(), &image, &labels);
        let example = example.unwrap_or_else(|e| panic!("{name}: {e}"));
        let first = weights(config.as_ref());
        let mut training = TrainLoop::new(config.as_ref(), &first, settings).unwrap();
        // The first epochs' learning rate is 0 and a little: what they report can be told apart from what they do.
        let report = training.epoch(std::slice::from_ref(&example)).unwrap();
        assert!(report.loss.is_finite() && report.loss > 0., "{name}");
        assert_eq!(report.rate, 0., "{name}");
        training.epoch(std::slice::from_ref(&example)).unwrap();
        // A bias in front of a batch norm has no gradient.
        for (weight, before) in first.trainable().filter(|(_, var)| var.rank() > 1) {
            let after = training.params().get(weight).unwrap();
            let apart = norm(&(after.as_detached_tensor() - before.as_detached_tensor()).unwrap());
            assert!(apart > 0., "{name} {weight} did not move");
        }
    }
    assert!(taught >= 2, "Cellpose and StarDist can be taught");
}
