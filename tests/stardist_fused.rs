//! StarDist's fused passes against its plain candle form: results and gradients.

use candle_core::{Device, Tensor, Var};
use selfadapt_core::error::Result;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, ModelConfig};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet};
use selfadapt_core::random_weights::random_weights;
use selfadapt_models::stardist::StarDistConfig;

use crate::waves::{loss, numbers, size, wave};

/// Random weights whose biases are not zero.
fn weights(config: &StarDistConfig) -> ParamSet {
    let params = random_weights(config, 5).unwrap();
    for (index, (_, var)) in params.trainable().enumerate() {
        let ripple = (wave(var.dims(), index) * 0.1).unwrap();
        var.set(&(var.as_detached_tensor() + ripple).unwrap())
            .unwrap();
    }
    params
}

/// The usual shape, and small ones: no grid, a grid of four without features, three channels.
fn configs() -> Vec<StarDistConfig> {
    let small = StarDistConfig {
        unet_n_filter_base: 6,
        unet_n_depth: 2,
        net_conv_after_unet: 10,
        n_rays: 8,
        ..StarDistConfig::default()
    };
    vec![
        StarDistConfig::default(),
        StarDistConfig {
            grid: 1,
            ..small.clone()
        },
        StarDistConfig {
            grid: 4,
            net_conv_after_unet: 0,
            unet_kernel_size: 5,
            unet_n_depth: 1,
            ..small.clone()
        },
        StarDistConfig {
            n_channel_in: 3,
            unet_n_conv_per_depth: 3,
            ..small
        },
    ]
}

fn images(config: &StarDistConfig, batch: usize) -> Tensor {
    wave(&[batch, config.n_channel_in, 32, 80], 9)
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let difference: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    size(&difference)
}

/// By a graph of candle, which images that are variables ask for.
fn plain(network: &Network, images: &Tensor) -> Prediction {
    let images = Var::from_tensor(images).unwrap();
    network.model.forward(&images, Mode::Eval).unwrap()
}

#[test]
fn passes_without_a_graph_are_those_of_candle() {
    for config in configs() {
        for batch in [1, 3] {
            let images = images(&config, batch);
            let network = Network::new(&config, weights(&config), Lend::Detached).unwrap();
            let a = network.model.forward(&images, Mode::Eval).unwrap();
            let b = plain(&network, &images);
            assert!(!a.heads[0].track_op() && b.heads[0].track_op());
            let maps = a.heads.iter().chain([&a.embedding]);
            for (a, b) in maps.zip(b.heads.iter().chain([&b.embedding])) {
                let (apart, size) = (apart(a, b), size(&numbers(b)));
                assert!(
                    apart < 1e-5 * size,
                    "{config:?} x {batch}: {apart} of {size}"
                );
            }
        }
    }
}

#[test]
fn gradients_are_those_of_candle() {
    for config in configs() {
        for batch in [1, 3] {
            let images = images(&config, batch);
            let network = Network::new(&config, weights(&config), Lend::Tracked).unwrap();
            let found = network
                .model
                .backward(&images, Mode::Train, &mut |p| loss(p))
                .unwrap();
            let expected = loss(&plain(&network, &images)).unwrap().backward().unwrap();
            let nudged = (&images + (wave(images.dims(), 77) * 1e-6).unwrap()).unwrap();
            let shaken = loss(&plain(&network, &nudged)).unwrap().backward().unwrap();
            for (name, var) in network.params.trainable() {
                let found = found
                    .get(var)
                    .unwrap_or_else(|| panic!("{name}: no gradient"));
                let expected = expected.get(var).unwrap();
                // Where a rounding opens a ReLU gradients jump, so what a nudge of the images does is allowed.
                let jump = apart(shaken.get(var).unwrap(), expected);
                let (off, size) = (apart(found, expected), size(&numbers(expected)));
                assert!(
                    off <= 3. * jump + 1e-3 * size,
                    "{config:?} x {batch}, {name}: {off} of {size}"
                );
            }
        }
    }
}

#[test]
fn a_loss_of_one_head_and_of_none() {
    let config = &configs()[1];
    let network = Network::new(config, weights(config), Lend::Tracked).unwrap();
    let images = images(config, 2);
    let by = |loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>| {
        network.model.backward(&images, Mode::Eval, loss).unwrap()
    };
    let gradients = by(&mut |p| Ok(p.heads[1].sqr()?.mean_all()?));
    let of = |name: &str| {
        gradients
            .get(network.params.get(name).unwrap())
            .map(numbers)
    };
    assert!(of("prob.weight").unwrap().iter().all(|&g| g == 0.));
    assert!(of("dist.weight").unwrap().iter().any(|&g| g != 0.));
    let gradients = by(&mut |_| Ok(Tensor::new(1f32, &Device::Cpu)?));
    assert!(
        gradients
            .get(network.params.get("prob.weight").unwrap())
            .is_none()
    );
}

#[test]
fn sides_and_channels_that_do_not_fit_are_named() {
    let config = StarDistConfig::default();
    assert_eq!(config.input().divisor, 16);
    let network = Network::new(&config, weights(&config), Lend::Detached).unwrap();
    let say = |shape: &[usize]| {
        let result = network.model.forward(&wave(shape, 1), Mode::Eval);
        result.unwrap_err().to_string()
    };
    assert!(say(&[1, 1, 12, 16]).contains("multiples of 16, got 12 x 16"));
    assert!(say(&[1, 3, 16, 16]).contains("for the input [1, 3, 16, 16], got [32, 1, 3, 3]"));
    let empty = wave(&[0, 1, 16, 16], 1);
    let empty = network.model.forward(&empty, Mode::Eval).unwrap();
    assert_eq!(empty.heads[1].dims(), [0, 32, 8, 8]);
    assert_eq!(empty.embedding.dims(), [0, 128]);
}
