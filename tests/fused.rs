//! CPnet's fused passes against its plain candle form: results, gradients, running statistics.

use candle_core::{Device, Tensor};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, ModelConfig};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet};
use selfadapt_models::cellpose::CellposeConfig;

use crate::waves::{apart, loss, numbers, size, wave, weights};

/// Networks of two and four levels and one with a single channel.
fn configs() -> Vec<CellposeConfig> {
    [vec![2, 32, 64, 128, 256], vec![1, 16, 24], vec![2, 5]]
        .map(|nbase| CellposeConfig {
            nbase,
            ..CellposeConfig::default()
        })
        .into()
}

fn images(config: &CellposeConfig, batch: usize) -> Tensor {
    wave(&[batch, config.input().channels, 32, 80], 9)
}

#[test]
fn passes_without_a_graph_are_those_of_candle() {
    for config in configs() {
        for (batch, mode) in [
            (1, Mode::Eval),
            (3, Mode::Eval),
            (1, Mode::Train),
            (3, Mode::Train),
        ] {
            let images = images(&config, batch);
            let fused = Network::new(&config, weights(&config), Lend::Detached).unwrap();
            let plain = Network::new(&config, weights(&config), Lend::Tracked).unwrap();
            let a = fused.model.forward(&images, mode).unwrap();
            let b = plain.model.forward(&images, mode).unwrap();
            assert!(!a.heads[0].track_op() && b.heads[0].track_op());
            let maps = a.heads.iter().chain([&a.embedding]);
            for (a, b) in maps.zip(b.heads.iter().chain([&b.embedding])) {
                let apart = apart(a, b);
                assert!(
                    apart < 1e-4,
                    "{:?} x {batch}, {mode:?}: {apart}",
                    config.nbase
                );
            }
            same_buffers(&fused.params, &plain.params);
        }
    }
}

fn same_buffers(a: &ParamSet, b: &ParamSet) {
    for ((name, a), (_, b)) in a.buffers().zip(b.buffers()) {
        let apart = apart(a, b);
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

#[test]
fn gradients_are_those_of_candle() {
    for config in configs() {
        for (batch, mode) in [
            (1, Mode::Eval),
            (3, Mode::Eval),
            (1, Mode::Train),
            (3, Mode::Train),
        ] {
            let images = images(&config, batch);
            let fused = Network::new(&config, weights(&config), Lend::Tracked).unwrap();
            let plain = Network::new(&config, weights(&config), Lend::Tracked).unwrap();
            let found = fused
                .model
                .backward(&images, mode, &mut |p| loss(p))
                .unwrap();
            let expected = loss(&plain.model.forward(&images, mode).unwrap())
                .unwrap()
                .backward()
                .unwrap();
            let other = Network::new(&config, weights(&config), Lend::Tracked).unwrap();
            let nudge = (wave(images.dims(), 77) * 1e-6).unwrap();
            let shaken = loss(
                &other
                    .model
                    .forward(&(&images + nudge).unwrap(), mode)
                    .unwrap(),
            )
            .unwrap()
            .backward()
            .unwrap();
            let size = |t: &Tensor| size(&numbers(t));
            let largest = plain
                .params
                .trainable()
                .map(|(_, var)| size(expected.get(var).unwrap()))
                .fold(0., f64::max);
            for ((name, a), (_, b)) in fused.params.trainable().zip(plain.params.trainable()) {
                let found = found
                    .get(a)
                    .unwrap_or_else(|| panic!("{name}: no gradient"));
                let expected = expected.get(b).unwrap();
                let shaken = shaken.get(other.params.get(name).unwrap()).unwrap();
                // Where a rounding opens a ReLU gradients jump, so what a nudge of the images does is allowed.
                let jump = size(&(shaken - expected).unwrap());
                let (off, size) = (size(&(found - expected).unwrap()), size(expected));
                assert!(
                    off <= 3. * jump + 1e-2 * size + 1e-4 * largest,
                    "{:?} x {batch}, {mode:?}, {name}: {off} of {size}",
                    config.nbase
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
    let weight = network.params.get("output.2.weight").unwrap();
    let mut one = |p: &Prediction| Ok(p.heads[1].sqr()?.mean_all()?);
    let gradients = network
        .model
        .backward(&images, Mode::Eval, &mut one)
        .unwrap();
    let rows: Vec<f64> = numbers(gradients.get(weight).unwrap());
    let (flows, cells) = rows.split_at(rows.len() / 3 * 2);
    assert!(flows.iter().all(|&g| g == 0.) && cells.iter().any(|&g| g != 0.));
    let mut none = |_: &Prediction| Ok(Tensor::new(1f32, &Device::Cpu)?);
    let gradients = network
        .model
        .backward(&images, Mode::Eval, &mut none)
        .unwrap();
    assert!(gradients.get(weight).is_none());
}

#[test]
fn sides_and_channels_that_do_not_fit_are_named() {
    let config = CellposeConfig::default();
    let network = Network::new(&config, weights(&config), Lend::Detached).unwrap();
    let say = |shape: &[usize]| {
        let result = network.model.forward(&wave(shape, 1), Mode::Eval);
        result.unwrap_err().to_string()
    };
    assert!(say(&[1, 2, 12, 16]).contains("multiples of 8, got 12 x 16"));
    assert!(say(&[1, 3, 16, 16]).contains("expected [2] channels"));
    let empty = network
        .model
        .forward(&wave(&[0, 2, 16, 16], 1), Mode::Eval)
        .unwrap();
    assert_eq!(empty.heads[0].dims(), [0, 2, 16, 16]);
    assert_eq!(empty.embedding.dims(), [0, 256]);
}
