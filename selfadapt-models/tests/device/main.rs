//! Networks on a device: their numbers are the CPU's. The device is the emulator of the kernels' own tests, and a GPU
//! where there is one.
//!
//! `cargo test --workspace --test device`
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../selfadapt-kernels/tests/cuda/emulator.rs"]
#[allow(dead_code)] // what only the kernels' tests use
mod emulator;
#[path = "../../../tests/waves.rs"]
mod waves;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, ModelConfig, SegmentationModel};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet};
use selfadapt_kernels::cuda::open;
use selfadapt_kernels::device::{Device, Precision, available};
use selfadapt_models::cellpose::CellposeConfig;
use selfadapt_models::device::agrees;
use selfadapt_models::stardist::StarDistConfig;

use emulator::{emulator, emulator_in, emulator_of};
use waves::{apart, loss, numbers, size, wave, weights};

fn each_device(test: impl Fn(Device)) {
    if let Some(machine) = emulator() {
        test(Device::on(machine, "emulator".into()));
    }
    if let Ok(gpus) = available() {
        println!("also on {}", gpus[0]);
        test(Device::on(
            open(0, Precision::F32).unwrap(),
            "cuda:0".into(),
        ));
    }
}

fn small() -> CellposeConfig {
    CellposeConfig {
        nbase: vec![2, 8, 16],
        ..CellposeConfig::default()
    }
}

/// The same weights on the CPU and on a device.
fn both(config: &CellposeConfig, device: &Device, lend: Lend) -> [Network; 2] {
    let there = config.on(device).unwrap();
    [config.boxed(), there].map(|config| {
        let params = weights(config.as_ref());
        Network::new(config.as_ref(), params, lend).unwrap()
    })
}

fn same_prediction(a: &Prediction, b: &Prediction, what: &str) {
    assert_eq!(a.heads.len(), b.heads.len());
    let maps = a.heads.iter().chain([&a.embedding]);
    for (a, b) in maps.zip(b.heads.iter().chain([&b.embedding])) {
        let apart = apart(a, b);
        assert!(apart < 1e-5, "{what}: {apart}");
    }
}

fn same_statistics(a: &ParamSet, b: &ParamSet) {
    for ((name, a), (_, b)) in a.buffers().zip(b.buffers()) {
        let apart = apart(a, b);
        assert!(apart < 1e-5, "{name}: {apart}");
    }
}

fn same_gradients([cpu, there]: [(&Network, &GradStore); 2], what: &str) {
    let size = |t: &Tensor| size(&numbers(t));
    let of_cpu = cpu.0.params.trainable();
    let largest = of_cpu
        .map(|(_, var)| size(cpu.1.get(var).unwrap()))
        .fold(0., f64::max);
    for ((name, a), (_, b)) in cpu.0.params.trainable().zip(there.0.params.trainable()) {
        let expected = cpu.1.get(a).unwrap();
        let found = there.1.get(b);
        let found = found.unwrap_or_else(|| panic!("{name}: no gradient"));
        let off = size(&(found - expected).unwrap());
        // A factor is taken out of what is 0 but for rounding.
        let most = 1e-4 * size(expected) + 1e-6 * largest;
        assert!(off <= most, "{what}, {name}: {off} of {}", size(expected));
    }
}

#[test]
fn inference_and_counting_are_the_cpus() {
    each_device(|device| {
        for (nbase, batch, sides) in [
            (vec![2, 8, 16], 2, [16, 16]),
            (vec![1, 5], 1, [3, 7]),
            (vec![2, 33, 8, 40], 3, [8, 12]),
            (vec![2, 8, 16], 0, [16, 16]),
        ] {
            let config = CellposeConfig {
                nbase: nbase.clone(),
                ..CellposeConfig::default()
            };
            for mode in [Mode::Eval, Mode::Train] {
                if mode == Mode::Train && batch == 0 {
                    continue;
                }
                let [cpu, there] = both(&config, &device, Lend::Detached);
                let images = wave(&[batch, nbase[0], sides[0], sides[1]], 9);
                // Twice, for the second pass finds its filters.
                for _ in 0..2 {
                    let a = there.model.forward(&images, mode).unwrap();
                    let b = cpu.model.forward(&images, mode).unwrap();
                    same_prediction(&a, &b, &format!("{nbase:?} x {batch}, {mode:?}"));
                    same_statistics(&there.params, &cpu.params);
                }
            }
        }
    });
}

#[test]
fn gradients_are_the_cpus() {
    each_device(|device| {
        for nbase in [vec![2, 8, 16], vec![1, 5]] {
            let config = CellposeConfig {
                nbase: nbase.clone(),
                ..CellposeConfig::default()
            };
            // Eval is how a network with frozen batch norm learns.
            for mode in [Mode::Eval, Mode::Train] {
                let [cpu, there] = both(&config, &device, Lend::Tracked);
                let images = wave(&[3, nbase[0], 16, 16], 9);
                let of = |network: &Network| {
                    let found = network.model.backward(&images, mode, &mut |p| loss(p));
                    found.unwrap()
                };
                let (a, b) = (of(&cpu), of(&there));
                same_gradients([(&cpu, &a), (&there, &b)], &format!("{nbase:?}, {mode:?}"));
                same_statistics(&there.params, &cpu.params);
            }
        }
    });
}

#[test]
fn weights_that_have_moved_are_brought_again() {
    each_device(|device| {
        let [cpu, there] = both(&small(), &device, Lend::Detached);
        let images = wave(&[1, 2, 16, 16], 3);
        let look = |network: &Network| network.model.forward(&images, Mode::Eval).unwrap();
        let before = look(&there);
        for network in [&cpu, &there] {
            for (_, var) in network.params.trainable() {
                var.set(&(var.as_detached_tensor() * 1.1).unwrap()).unwrap();
            }
        }
        same_prediction(&look(&there), &look(&cpu), "after a step");
        assert!(apart(&look(&there).heads[0], &before.heads[0]) > 1e-3);
    });
}

#[test]
fn a_device_stays_with_a_configuration_and_is_not_written() {
    each_device(|device| {
        let there = small().on(&device).unwrap();
        let text = serde_json::to_string(&there).unwrap();
        assert!(!text.contains("device"), "{text}");
        let parsed: Box<dyn ModelConfig> = serde_json::from_str(&text).unwrap();
        // What runs on a device refuses a graph, which tells the two apart.
        let builds_graphs = |config: &dyn ModelConfig| {
            let network = Network::new(config, weights(config), Lend::Tracked).unwrap();
            network.model.forward(&wave(&[1, 2, 16, 16], 1), Mode::Eval)
        };
        for copy in [
            there.boxed(),
            there
                .sized(selfadapt_core::model::Sizing::Diameter(20.))
                .unwrap(),
        ] {
            let error = builds_graphs(copy.as_ref()).unwrap_err().to_string();
            assert!(
                error.contains("found a pass that records a graph"),
                "{error}"
            );
        }
        builds_graphs(parsed.as_ref()).unwrap();
        let error = StarDistConfig::default()
            .on(&device)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("found stardist, which computes on the CPU in f32 alone"),
            "{error}"
        );
    });
}

#[test]
fn a_full_memory_halves_the_batch_and_a_step_goes_to_the_cpu() {
    let images = wave(&[4, 2, 16, 16], 9);
    let config = small();
    // Of all sizes some fit whole, some in parts, and the smallest not at all; results are the CPU's all the same.
    let mut ways = std::collections::BTreeSet::new();
    for kibibytes in [8, 150, 300, 100_000] {
        let Some(machine) = emulator_of(kibibytes << 10) else {
            return;
        };
        let device = Device::on(machine, "emulator".into());
        for mode in [Mode::Eval, Mode::Train] {
            let [cpu, there] = both(&config, &device, Lend::Detached);
            for _ in 0..2 {
                let a = there.model.forward(&images, mode).unwrap();
                let b = cpu.model.forward(&images, mode).unwrap();
                same_prediction(&a, &b, &format!("{kibibytes} KiB, {mode:?}"));
                same_statistics(&there.params, &cpu.params);
            }
            let [cpu, there] = both(&config, &device, Lend::Tracked);
            let of = |network: &Network| {
                let found = network.model.backward(&images, mode, &mut |p| loss(p));
                found.unwrap()
            };
            let (a, b) = (of(&cpu), of(&there));
            same_gradients(
                [(&cpu, &a), (&there, &b)],
                &format!("{kibibytes} KiB, {mode:?}"),
            );
            same_statistics(&there.params, &cpu.params);
        }
    }
    for kibibytes in (200..=400).step_by(20).chain([100_000]) {
        let Some(machine) = emulator_of(kibibytes << 10) else {
            return;
        };
        let device = Device::on(machine, "emulator".into());
        let net = selfadapt_models::cellpose::net::CpNet::load(
            &config.nbase,
            &candle_nn_weights(&config),
        );
        let net = net.unwrap().on(device);
        net.forward(&images, Mode::Eval).unwrap();
        ways.insert(net.most_images());
    }
    assert!(ways.len() >= 3, "{ways:?}");
}

fn candle_nn_weights(config: &CellposeConfig) -> candle_nn::VarBuilder<'static> {
    let tensors = weights(config)
        .iter()
        .map(|(name, var, _)| (name.to_owned(), var.as_detached_tensor()))
        .collect();
    candle_nn::VarBuilder::from_tensors(tensors, DType::F32, &candle_core::Device::Cpu)
}

#[test]
fn a_device_that_computes_like_the_cpu_passes_the_check() {
    each_device(|device| {
        agrees(&small(), &device).unwrap();
        let error = agrees(&StarDistConfig::default(), &device).unwrap_err();
        assert!(error.to_string().contains("CPU in f32 alone"), "{error}");
    });
}

#[test]
fn rounded_factors_are_near_the_cpus_and_not_the_same() {
    let images = wave(&[2, 2, 16, 16], 9);
    for (precision, least, most) in [(Precision::Tf32, 1e-5, 5e-3), (Precision::Bf16, 1e-4, 5e-2)] {
        let Some(machine) = emulator_in(precision) else {
            return;
        };
        let device = Device::on(machine, "emulator".into());
        assert_eq!(device.precision(), precision);
        agrees(&small(), &device).unwrap();
        let [cpu, there] = both(&small(), &device, Lend::Detached);
        let a = there.model.forward(&images, Mode::Eval).unwrap();
        let b = cpu.model.forward(&images, Mode::Eval).unwrap();
        for (a, b) in a.heads.iter().zip(&b.heads) {
            let apart = apart(a, b);
            println!("{precision:?}: {apart:.2e}");
            assert!((least..most).contains(&apart), "{precision:?}: {apart}");
        }
    }
}

#[test]
#[ignore = "takes minutes: the emulator computes all of CPnet, as `--device` has a GPU do before a run"]
fn the_whole_network_passes_the_check() {
    for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
        let Some(machine) = emulator_in(precision) else {
            return;
        };
        let device = Device::on(machine, "emulator".into());
        let began = std::time::Instant::now();
        let passed = agrees(&CellposeConfig::default(), &device);
        println!("{precision:?}: {passed:?}, {:.0?}", began.elapsed());
        passed.unwrap();
    }
}
