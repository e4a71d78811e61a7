//! Images of odd numbers through preparation, network and decoding; the same numbers from run to run and thread to thread.

use ndarray::Array3;
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::infer::{InferOptions, predict};
use selfadapt_core::io;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::network::Network;
use selfadapt_core::params::Lend;
use selfadapt_core::random_weights::random_weights;
use selfadapt_models::cellpose::CellposeConfig;

const SIDE: usize = 70;

fn config() -> CellposeConfig {
    CellposeConfig {
        nbase: vec![2, 8, 16, 16, 16],
        channels: [1, 2],
        ..CellposeConfig::default()
    }
}

fn network(config: &dyn ModelConfig) -> Network {
    Network::new(config, random_weights(config, 3).unwrap(), Lend::Detached).unwrap()
}

fn image(stored_as: PixelType, value: impl Fn(usize) -> f32) -> Image {
    let pixels = Array3::from_shape_fn((2, SIDE, SIDE), |(c, y, x)| {
        value((c * SIDE + y) * SIDE + x)
    });
    Image::new(pixels, stored_as).unwrap()
}

fn maps(config: &dyn ModelConfig, network: &Network, image: &Image) -> Prediction {
    let prepared = config.prepare(image, 1.).unwrap();
    predict(network, &config.input(), &prepared, InferOptions::default()).unwrap()
}

fn numbers(maps: &Prediction) -> Vec<f32> {
    let heads = maps.heads.iter().chain([&maps.embedding]);
    heads
        .flat_map(|head| head.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .collect()
}

#[test]
fn odd_numbers_stay_numbers() {
    let config = config();
    let network = network(&config);
    let wave = |i: usize| ((i * 7919) % 1009) as f32;
    for (name, image) in [
        ("constant", image(PixelType::U16, |_| 700.)),
        ("zero", image(PixelType::U8, |_| 0.)),
        ("saturated", image(PixelType::U16, |_| 65535.)),
        (
            "nearly saturated",
            image(
                PixelType::U16,
                |i| if i % 1000 == 0 { 65534. } else { 65535. },
            ),
        ),
        (
            "one pixel",
            image(PixelType::U16, |i| f32::from(u16::from(i == 2000))),
        ),
        (
            "one constant channel",
            image(
                PixelType::U16,
                |i| if i < SIDE * SIDE { wave(i) } else { 9. },
            ),
        ),
        ("negative", image(PixelType::Float, |i| -1e4 - wave(i))),
        (
            "denormal",
            image(PixelType::Float, |i| f32::from_bits(1 + i as u32 % 1000)),
        ),
        ("huge", image(PixelType::Float, |i| wave(i) * 1e35)),
        (
            "huge of both signs",
            image(PixelType::Float, |i| (wave(i) - 500.) * 3e35),
        ),
        (
            "tiny range on a large offset",
            image(PixelType::Float, |i| 1e6 + (i % 3) as f32 * 0.0625),
        ),
    ] {
        assert!(io::check_finite(&image).is_ok(), "{name}");
        let maps = maps(&config, &network, &image);
        assert!(
            numbers(&maps).iter().all(|value| value.is_finite()),
            "{name}"
        );
        let labels = config.decoder().decode(&maps, image.size()).unwrap();
        assert_eq!(labels.size(), (SIDE, SIDE), "{name}");
    }
}

#[test]
fn what_is_no_number_is_refused_and_named() {
    let config = config();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let image = image(PixelType::Float, |i| {
            if i == 3 * SIDE + 4 {
                bad
            } else {
                1. + i as f32
            }
        });
        let message = io::check_finite(&image).unwrap_err().to_string();
        assert!(message.contains("row 3, column 4"), "{message}");
        let message = config.prepare(&image, 1.).unwrap_err().to_string();
        assert!(message.contains("row 3, column 4"), "{message}");
    }
}

#[test]
fn the_number_of_threads_hardly_matters_and_the_run_not_at_all() {
    let config = config();
    let network = network(&config);
    let image = image(PixelType::U16, |i| ((i * 7919) % 1009) as f32);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| numbers(&maps(&config, &network, &image)))
    };
    let one = with(1);
    let largest = one.iter().fold(0_f32, |most, value| most.max(value.abs()));
    for threads in [1, 2, 3, 5] {
        let first = with(threads);
        assert!(first == with(threads), "{threads} threads, twice");
        let apart = one
            .iter()
            .zip(&first)
            .map(|(a, b)| (a - b).abs())
            .fold(0., f32::max);
        println!(
            "{threads} threads: {:e} of the largest value",
            apart / largest
        );
        assert!(
            apart <= 1e-5 * largest,
            "{threads} threads: {apart} of {largest}"
        );
    }
}
