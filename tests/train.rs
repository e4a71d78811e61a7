//! Training from labels: loss and steps as in the recorded ones of Cellpose 3.1.1, and a tiny set learned by heart.

use candle_core::{Device, Tensor};
use ndarray::{Array2, Array3, ArrayD, Axis, Ix3};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::labels::Labels;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_core::random_weights::random_weights;
use selfadapt_core::supervise::Example;
use selfadapt_core::supervise::config::{Optimiser, TrainConfig};
use selfadapt_core::supervise::train::{EpochReport, TrainLoop};
use selfadapt_core::supervise::warp::Warp;
use selfadapt_metrics::average_precision::average_precision;
use selfadapt_models::cellpose::CellposeConfig;
use selfadapt_models::format;

use crate::npz::Npz;

fn tensor(array: &ArrayD<f32>) -> Tensor {
    Tensor::from_slice(array.as_slice().unwrap(), array.shape(), &Device::Cpu).unwrap()
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found} instead of {expected}"
    );
}

#[test]
fn losses_and_steps_are_those_of_cellpose() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let mut npz = Npz::open(dir.join("cellpose/train_step.npz"));
    let record = std::fs::read_to_string(dir.join("cellpose/train_step.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let (images, targets) = (tensor(&npz.f32("input")), tensor(&npz.f32("target")));
    let loaded = format::open(dir.join("cellpose/cyto_scellseg.pt")).unwrap();
    for (name, optimiser) in [("adamw", Optimiser::AdamW), ("sgd", Optimiser::Sgd)] {
        let config = TrainConfig {
            optimiser,
            weight_decay: 1e-5,
            ..loaded.config.supervision().unwrap().defaults(false)
        };
        let mut training = TrainLoop::new(loaded.config.as_ref(), &loaded.params, config).unwrap();
        let expected = &record["optimiser_steps"][name]["losses_train_mode"];
        let (loss, parts) = training.step(&images, &targets, 0.005).unwrap();
        close(loss, number(&expected[0]), 1e-4, "loss");
        let regression = number(&record["loss_flow"]);
        close(0.5 * parts.regression, regression, 1e-4, "flows");
        close(
            parts.classification,
            number(&record["loss_cellprob"]),
            1e-4,
            "cells",
        );
        for weight in ["output.2.weight", "output.2.bias", "output.0.weight"] {
            let expected = npz.f32(&format!("{name}.step1.{weight}"));
            let found = training.params().get(weight).unwrap();
            let found = found.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let largest = differences.fold(0., f32::max);
            // AdamW's first step is the gradient's sign, whatever its size: tiny gradients may differ in sign.
            assert!(largest < 2e-5, "{name}, {weight}: {largest}");
        }
        // The next loss rests on every weight's step; Winograd rounds them a little differently.
        let (loss, _) = training.step(&images, &targets, 0.005).unwrap();
        close(loss, number(&expected[1]), 2e-2, "loss after a step");
    }
}

/// tests/golden/make_warp.py: OpenCV rounds positions to 1/32 of a pixel, so a steep map differs by a little.
#[test]
fn crops_are_those_of_cellpose() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/warp.npz");
    let mut npz = Npz::open(golden);
    let [drawn, image, maps, images, targets] =
        ["drawn", "image", "maps", "images", "targets"].map(|name| npz.f64(name));
    let planes = |array: &ArrayD<f64>| {
        array
            .mapv(|v| v as f32)
            .into_dimensionality::<Ix3>()
            .unwrap()
    };
    let teaching = CellposeConfig::default().supervision().unwrap();
    for (n, drawn) in drawn.outer_iter().enumerate() {
        let drawn: Vec<f64> = drawn.iter().copied().collect();
        let warp = Warp {
            flip: drawn[0] == 1.,
            angle: drawn[1],
            scale: drawn[2],
            shift: (drawn[3], drawn[4]),
            side: 48,
        };
        let found: Vec<f32> = planes(&image)
            .outer_iter()
            .flat_map(|plane| warp.bilinear(plane))
            .collect();
        let expected = images.index_axis(Axis(0), n);
        for (found, expected) in found.iter().zip(expected) {
            close(f64::from(*found), *expected, 0.03, "image");
        }
        let found = teaching.crop(planes(&maps).view(), &warp).unwrap();
        let expected = targets.index_axis(Axis(0), n);
        let far = found
            .iter()
            .zip(expected)
            .filter(|(found, expected)| (f64::from(**found) - **expected).abs() > 0.05)
            .count();
        // Flows change their sign from a pixel to the next at a cell's middle and edge.
        assert!(far < 3 * 48 * 48 / 200, "{far} of {} differ", 3 * 48 * 48);
    }
}

/// Bright discs of 13 pixels on a dark, faintly rippled ground.
pub fn discs(seed: usize) -> (Image, Labels) {
    const SIZE: (usize, usize) = (64, 64);
    let centre = |k: usize| {
        let wander = |n: usize| ((n * 7 + seed * 5 + k * 3) % 7) as f64;
        (
            10. + 20. * (k / 3) as f64 + wander(1),
            10. + 20. * (k % 3) as f64 + wander(2),
        )
    };
    let labels = Array2::from_shape_fn(SIZE, |(y, x)| {
        let inside = (0..9).find(|&k| {
            let (cy, cx) = centre(k);
            (y as f64 - cy).hypot(x as f64 - cx) < 6.5
        });
        inside.map_or(0, |k| k as u32 + 1)
    });
    let pixels = Array3::from_shape_fn((1, SIZE.0, SIZE.1), |(_, y, x)| {
        let ripple = ((y * 13 + x * 29 + seed) % 11) as f32;
        ripple + if labels[[y, x]] == 0 { 20. } else { 80. }
    });
    let image = Image::new(pixels, PixelType::U8).unwrap();
    (image, Labels::new(labels))
}

/// Teaches a network [`discs`] from weights that know nothing, and returns its 60 epochs. It must find the discs, and
/// going on from a saved state must lead to the same bits.
pub fn learned_by_heart(model: &dyn ModelConfig, config: TrainConfig) -> Vec<EpochReport> {
    let teaching = model.supervision().unwrap();
    let sets: Vec<(Image, Labels)> = (0..4).map(discs).collect();
    let examples: Vec<Example> = sets
        .iter()
        .map(|(image, labels)| Example::new(model, teaching.as_ref(), image, labels).unwrap())
        .collect();
    let config = TrainConfig {
        epochs: 60,
        crop: 64,
        ..config
    };
    let weights = random_weights(model, 3).unwrap();
    let mut training = TrainLoop::new(model, &weights, config).unwrap();
    let mut reports = Vec::new();
    let mut halfway = None;
    while training.epochs_done() < config.epochs {
        if training.epochs_done() == 30 {
            halfway = Some(training.state().unwrap());
        }
        reports.push(training.epoch(&examples).unwrap());
    }

    let network = Network::new(model, training.params().fork().unwrap(), Lend::Detached).unwrap();
    let (image, labels) = &sets[0];
    let prepared = model.prepare(image, 1.).unwrap();
    let options = InferOptions { batch: 1 };
    let maps = predict(&network, &model.input(), &prepared, options).unwrap();
    let found = model.decoder().decode(&maps, labels.size()).unwrap();
    let ap = average_precision(labels, &found, &[0.5]).unwrap()[0].ap;
    assert!(ap > 0.85, "AP {ap} with {} of 9 discs found", found.count());

    let mut again = TrainLoop::new(model, &weights, config).unwrap();
    again.restore(&halfway.unwrap()).unwrap();
    for expected in &reports[30..33] {
        assert_eq!(again.epoch(&examples).unwrap().loss, expected.loss);
    }
    reports
}

#[test]
fn a_small_network_learns_a_tiny_set_by_heart() {
    let model = CellposeConfig {
        nbase: vec![2, 8, 16],
        diam_mean: 13.,
        diam_labels: Some(13.),
        ..CellposeConfig::default()
    };
    let config = TrainConfig {
        crops_per_epoch: 8,
        batch: 4,
        ..model.supervision().unwrap().defaults(true)
    };
    let reports = learned_by_heart(&model, config);
    let (first, last) = (reports[0].loss, reports[59].loss);
    assert!(last < 0.25 * first, "from {first} to {last}");
}

#[test]
fn what_cannot_be_taught_from_says_why() {
    let model = CellposeConfig::default();
    let teaching = model.supervision().unwrap();
    let (image, labels) = discs(0);
    let say = |labels: &Labels| {
        let made = Example::new(&model, teaching.as_ref(), &image, labels);
        made.err().unwrap().to_string()
    };
    let small = say(&Labels::empty(64, 60));
    assert!(
        small.contains("64 x 64") && small.contains("64 x 60"),
        "{small}"
    );
    let empty = say(&Labels::empty(64, 64));
    assert!(empty.contains("every pixel is 0"), "{empty}");
    let toy = crate::toy::ToyConfig { threshold: 0.5 };
    let message = toy.supervision().err().unwrap().to_string();
    assert!(
        message.contains("cannot be trained from labels"),
        "{message}"
    );
    let config = TrainConfig {
        crop: 100,
        ..teaching.defaults(false)
    };
    let weights = random_weights(&model, 0).unwrap();
    let message = TrainLoop::new(&model, &weights, config)
        .err()
        .unwrap()
        .to_string();
    assert!(message.contains("multiple of 16"), "{message}");
    let mut training = TrainLoop::new(&model, &weights, teaching.defaults(false)).unwrap();
    let message = training.epoch(&[]).unwrap_err().to_string();
    assert!(message.contains("no labelled image"), "{message}");
    let _ = labels;
}
