//! What every registered model must do; the toy model in plain candle passes too.

use candle_core::{DType, Device, Tensor};
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::adapt::config::{AdaptConfig, BatchNorm, Moving};
use selfadapt_core::dihedral::Dihedral;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, ModelConfig};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet, Role, Stage};
use selfadapt_core::random_weights::random_weights;
use selfadapt_models::format::ModelFormat;

/// Every registered model, and the toy.
pub fn models() -> Vec<(String, Box<dyn ModelConfig>)> {
    let mut names: Vec<String> = inventory::iter::<ModelFormat>()
        // Registered by tests/format.rs, to try the registry itself.
        .filter(|format| format.name != "speck")
        .map(|format| format.name.to_owned())
        .collect();
    names.sort();
    for expected in ["cellpose", "mesmer", "stardist"] {
        assert!(names.iter().any(|name| name == expected), "{names:?}");
    }
    let mut models: Vec<(String, Box<dyn ModelConfig>)> = names
        .into_iter()
        .map(|name| {
            let config = serde_json::from_value(settings(&name));
            let config =
                config.unwrap_or_else(|e| panic!("{name} has no default configuration: {e}"));
            (name, config)
        })
        .collect();
    let normed = serde_json::json!({ "model": "stardist", "unet_batch_norm": true });
    models.push(("normed".into(), serde_json::from_value(normed).unwrap()));
    let toy = crate::toy::ToyConfig { threshold: 0.5 };
    models.push(("toy".into(), Box::new(toy)));
    models
}

/// A model's default settings, but for the sizes of one whose many weights would take minutes.
fn settings(name: &str) -> serde_json::Value {
    match name {
        "mesmer" => serde_json::json!({
            "model": name, "filters": 8, "blocks": [2, 1, 1, 1], "pyramid": 16, "semantic": 8, "dense": 8,
        }),
        _ => serde_json::json!({ "model": name }),
    }
}

/// Images that fit the model, with structure.
fn images(config: &dyn ModelConfig, batch: usize) -> Tensor {
    let input = config.input();
    let side = input.divisor.max(8) * 2;
    let numbers: Vec<f32> = (0..batch * input.channels * side * side)
        .map(|i| ((i % side) as f32 * 0.5).sin() + ((i / side) as f32 * 0.23).cos())
        .collect();
    Tensor::from_vec(numbers, (batch, input.channels, side, side), &Device::Cpu).unwrap()
}

/// Random weights with no zeros or ones left, so that every part of the network takes part.
pub fn weights(config: &dyn ModelConfig) -> ParamSet {
    let params = random_weights(config, 7).unwrap();
    for (index, (_, var)) in params.trainable().enumerate() {
        let n = var.elem_count();
        let ripple: Vec<f32> = (0..n)
            .map(|i| 0.05 * (1. + (i + index) as f32).sin())
            .collect();
        let ripple = Tensor::from_vec(ripple, var.shape(), &Device::Cpu).unwrap();
        var.set(&(var.as_detached_tensor() + ripple).unwrap())
            .unwrap();
    }
    params
}

fn loss(prediction: &Prediction) -> selfadapt_core::error::Result<Tensor> {
    let mut total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    for (index, head) in prediction.heads.iter().enumerate() {
        // A target that is not symmetric, so that no gradient cancels by chance.
        let numbers: Vec<f32> = (0..head.elem_count())
            .map(|i| (i as f32 * 0.13 + index as f32).sin())
            .collect();
        let target = Tensor::from_vec(numbers, head.shape(), &Device::Cpu)?;
        total = (total + (head - target)?.sqr()?.mean_all()?)?;
    }
    Ok(total)
}

#[test]
fn a_decoder_is_what_the_deepest_features_do_not_depend_on() {
    for (name, config) in models() {
        let params = weights(config.as_ref());
        let stages: Vec<Option<Stage>> = params
            .trainable()
            .map(|(weight, _)| config.stage(weight))
            .collect();
        if stages.iter().all(Option::is_none) {
            let refused = Moving::Encoder
                .moves(config.as_ref(), "any", 4)
                .unwrap_err();
            assert!(refused.to_string().contains("adapt.moving"), "{refused}");
            continue;
        }
        for stage in [Stage::Encoder, Stage::Decoder] {
            assert!(stages.contains(&Some(stage)), "{name}: no {stage:?}");
        }
        assert!(
            !stages.contains(&None),
            "{name}: some weights have no stage"
        );
        let network = Network::new(config.as_ref(), params, Lend::Detached).unwrap();
        let images = images(config.as_ref(), 2);
        let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let look = || network.model.forward(&images, Mode::Eval).unwrap();
        let before = look();
        for (weight, var) in network.params.trainable() {
            let rank = var.rank();
            if Moving::Decoder
                .moves(config.as_ref(), weight, rank)
                .unwrap()
            {
                var.set(&(var.as_detached_tensor() * 1.5).unwrap()).unwrap();
            }
        }
        let after = look();
        assert_eq!(
            numbers(&before.embedding),
            numbers(&after.embedding),
            "{name}"
        );
        for (before, after) in before.heads.iter().zip(&after.heads) {
            assert_ne!(numbers(before), numbers(after), "{name}");
        }
    }
}

#[test]
fn heads_have_the_promised_shapes() {
    for (name, config) in models() {
        let network =
            Network::new(config.as_ref(), weights(config.as_ref()), Lend::Detached).unwrap();
        let images = images(config.as_ref(), 2);
        let (_, _, height, width) = images.dims4().unwrap();
        let grid = config.input().grid;
        let prediction = network.model.forward(&images, Mode::Eval).unwrap();
        let heads = network.model.heads();
        assert!(!heads.is_empty(), "{name}");
        assert_eq!(prediction.heads.len(), heads.len(), "{name}");
        for (head, map) in heads.iter().zip(&prediction.heads) {
            assert_eq!(
                map.dims(),
                [2, head.channels, height / grid, width / grid],
                "{name} {}",
                head.name
            );
            assert!(
                !map.track_op(),
                "{name}: a detached network recorded a graph"
            );
            for view in Dihedral::ALL {
                view.channel_map(head).unwrap();
            }
        }
        assert_eq!(prediction.embedding.rank(), 2, "{name}");
        assert_eq!(prediction.embedding.dim(0).unwrap(), 2, "{name}");
    }
}

#[test]
fn the_gradient_reaches_every_trainable_and_equals_that_of_candle() {
    for (name, config) in models() {
        for mode in [Mode::Eval, Mode::Train] {
            let images = images(config.as_ref(), 2);
            let own =
                Network::new(config.as_ref(), weights(config.as_ref()), Lend::Tracked).unwrap();
            let fast = own.model.backward(&images, mode, &mut |p| loss(p)).unwrap();
            let plain =
                Network::new(config.as_ref(), weights(config.as_ref()), Lend::Tracked).unwrap();
            let slow = loss(&plain.model.forward(&images, mode).unwrap())
                .unwrap()
                .backward()
                .unwrap();
            let largest = plain
                .params
                .trainable()
                .map(|(_, var)| norm(slow.get(var).unwrap()))
                .fold(0., f64::max);
            for ((weight, a), (_, b)) in own.params.trainable().zip(plain.params.trainable()) {
                let fast = fast
                    .get(a)
                    .unwrap_or_else(|| panic!("{name} {mode:?}: no gradient of {weight}"));
                let slow = slow
                    .get(b)
                    .unwrap_or_else(|| panic!("{name} {mode:?}: no gradient of {weight}"));
                let apart = norm(&(fast - slow).unwrap());
                // Winograd's and candle's sums differ in rounding, most where the true gradient is zero.
                assert!(
                    apart <= 0.02 * norm(slow) + 1e-5 * largest,
                    "{name} {mode:?} {weight}: {apart} of {}",
                    norm(slow)
                );
            }
        }
    }
}

#[test]
fn only_training_moves_buffers_and_detached_networks_see_every_update() {
    for (name, config) in models() {
        let student =
            Network::new(config.as_ref(), weights(config.as_ref()), Lend::Tracked).unwrap();
        let watcher = student
            .params
            .lend(Lend::Detached, |vb| config.build(vb))
            .unwrap();
        let images = images(config.as_ref(), 2);
        let output = || {
            let prediction = watcher.forward(&images, Mode::Eval).unwrap();
            prediction.heads[0]
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
        };
        let first = output();
        student.model.forward(&images, Mode::Eval).unwrap();
        assert_eq!(first, output(), "{name}: an evaluation moved something");
        student.model.forward(&images, Mode::Train).unwrap();
        let has_buffers = student.params.buffers().next().is_some();
        assert_eq!(
            first != output(),
            has_buffers,
            "{name}: buffers and training"
        );
        let second = output();
        for (_, var) in student.params.trainable() {
            var.set(&(var.as_detached_tensor() * 1.1).unwrap()).unwrap();
        }
        assert_ne!(
            second,
            output(),
            "{name}: a detached network missed an update"
        );
    }
}

#[test]
fn weights_are_strict() {
    for (name, config) in models() {
        let all = weights(config.as_ref());
        let tensors = || {
            all.tensors()
                .filter(|(_, _, role)| *role != Role::Constant)
                .map(|(n, t, _)| (n.to_owned(), t))
                .collect::<Vec<_>>()
        };
        let build = |tensors: Vec<(String, Tensor)>| {
            let params = ParamSet::new(tensors, |n| config.role(n)).unwrap();
            Network::new(config.as_ref(), params, Lend::Detached)
                .map(|_| ())
                .map_err(|e| e.to_string())
        };
        build(tensors()).unwrap();
        let mut missing = tensors();
        let (gone, tensor) = missing.pop().unwrap();
        assert!(build(missing).unwrap_err().contains(&gone), "{name}");
        let mut extra = tensors();
        extra.push(("stowaway.weight".into(), tensor.clone()));
        assert!(
            build(extra).unwrap_err().contains("stowaway.weight"),
            "{name}"
        );
        let mut misshaped = tensors();
        if let Some(last) = misshaped.last_mut() {
            last.1 = Tensor::zeros((1, 2, 3), DType::F32, &Device::Cpu).unwrap();
        }
        assert!(build(misshaped).unwrap_err().contains(&gone), "{name}");
    }
}

#[test]
fn configurations_survive_being_written() {
    for (name, config) in models() {
        let text = serde_json::to_string(&config).unwrap();
        let back: Box<dyn ModelConfig> = serde_json::from_str(&text).unwrap();
        assert_eq!(text, serde_json::to_string(&back).unwrap(), "{name}");
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["no_such_setting"] = 1.into();
        let error = serde_json::from_value::<Box<dyn ModelConfig>>(value)
            .unwrap_err()
            .to_string();
        assert!(error.contains("no_such_setting"), "{name}: {error}");
    }
}

pub fn norm(tensor: &Tensor) -> f64 {
    let numbers = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    numbers
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[test]
fn clean_statistics_are_those_of_the_crops_as_they_are() {
    statistics_follow_the_crops_as_they_are(BatchNorm::Clean);
}

#[test]
fn blended_statistics_are_those_of_the_crops_as_they_are() {
    statistics_follow_the_crops_as_they_are(BatchNorm::Blend);
}

fn statistics_follow_the_crops_as_they_are(batch_norm: BatchNorm) {
    for (name, config) in models() {
        let settings = AdaptConfig {
            batch: 2,
            views: 1,
            batch_norm,
            crop: config.input().divisor,
            ..AdaptConfig::default()
        };
        let pretrained = weights(config.as_ref());
        let mut adapting = AdaptLoop::new(config.as_ref(), &pretrained, &settings).unwrap();
        let crops = images(config.as_ref(), 2);
        adapting.step(&crops).unwrap();
        // The weights that the step came to, with the statistics from before it, see the crops once.
        let expected = adapting.student.params.fork().unwrap();
        for (name, var) in expected.buffers() {
            let before = pretrained.get(name).unwrap();
            var.set(&before.as_detached_tensor()).unwrap();
        }
        let expected = Network::new(config.as_ref(), expected, Lend::Detached).unwrap();
        expected.model.forward(&crops, Mode::Train).unwrap();
        let buffers = expected.params.buffers();
        for ((buffer, expected), (_, found)) in buffers.zip(adapting.student.params.buffers()) {
            let apart = (expected.as_detached_tensor() - found.as_detached_tensor()).unwrap();
            let apart = apart.abs().unwrap().flatten_all().unwrap();
            let apart = apart.max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(apart == 0., "{name} {buffer}: {apart}");
            let moved = (pretrained.get(buffer).unwrap().as_detached_tensor()
                - found.as_detached_tensor())
            .unwrap();
            let moved = moved.abs().unwrap().flatten_all().unwrap();
            let moved = moved.max(0).unwrap().to_scalar::<f32>().unwrap();
            assert!(moved > 0., "{name} {buffer} did not move");
        }
    }
}

/// The numbers of each head before and after a change of the network's weights.
fn before_and_after(
    config: &dyn ModelConfig,
    network: &Network,
    change: impl FnOnce(),
) -> Vec<(Vec<f32>, Vec<f32>)> {
    let images = images(config, 2);
    let heads = || {
        let maps = network.model.forward(&images, Mode::Eval).unwrap().heads;
        let numbers = |map: &Tensor| map.flatten_all().unwrap().to_vec1().unwrap();
        maps.iter().map(numbers).collect::<Vec<Vec<f32>>>()
    };
    let before = heads();
    change();
    before.into_iter().zip(heads()).collect()
}

#[test]
fn what_holds_sizes_moves_its_own_head_alone() {
    let (mut foregrounds, mut lengths) = (0, 0);
    for (name, config) in models() {
        let weights = weights(config.as_ref());
        let network = Network::new(config.as_ref(), weights, Lend::Detached).unwrap();
        let check = |head: usize, change: &dyn Fn(), expected: &dyn Fn(f32) -> f32| {
            let all = before_and_after(config.as_ref(), &network, change);
            for (index, (before, after)) in all.into_iter().enumerate() {
                for (before, after) in before.into_iter().zip(after) {
                    let due = [before, expected(before)][usize::from(index == head)];
                    let off = (due - after).abs();
                    assert!(off < 1e-4, "{name}, head {index}: {off}");
                }
            }
        };
        if let Some(of) = network.model.foreground() {
            foregrounds += 1;
            let head = &network.model.heads()[of.head];
            assert!(head.is_classification(), "{name}");
            let lower = || of.lower(&network.params, 0.75).unwrap();
            check(of.head, &lower, &|logit| logit - 0.75);
        }
        if let Some(of) = network.model.lengths() {
            lengths += 1;
            let stretch = || of.stretch(&network.params, 1.5).unwrap();
            check(of.head, &stretch, &|length| length * 1.5);
        }
    }
    assert!(foregrounds >= 2 && lengths >= 1, "Cellpose, toy, StarDist");
}
