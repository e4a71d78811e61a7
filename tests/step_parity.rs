//! One SelfAdapt step on Cellpose's network equals that of the PyTorch reference (tests/golden/make_step.py).

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::adapt::config::{AdaptConfig, BatchNorm};
use selfadapt_core::gate::{ConfidenceGate, GateConfig};
use selfadapt_core::objective::{L2sp, Objective};
use selfadapt_core::params::Role;
use selfadapt_core::perturb::Perturb;
use selfadapt_models::format;

use crate::assets;

fn golden() -> HashMap<String, Tensor> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/step.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor
        .to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let (a, b) = (numbers(a), numbers(b));
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0., f32::max)
}

fn close(ours: f64, theirs: f64, relative: f64, what: &str) {
    assert!(
        (ours - theirs).abs() <= relative * theirs.abs(),
        "{what}: {ours} instead of {theirs}"
    );
}

#[test]
fn a_step_equals_the_reference() {
    let Some(assets) = assets::dir() else { return };
    let golden = golden();
    let loaded = format::open(assets.join("cellpose/cyto_scellseg.pt")).unwrap();
    let config = AdaptConfig {
        steps: 60,
        batch: 2,
        crop: 64,
        views: 8,
        ema: 0.95,
        learning_rate: 3e-4,
        warm_up: 0.,
        batch_norm: BatchNorm::Train,
        objective: Objective {
            lambda: 0.5,
            l2sp: L2sp::Beta(1e-2),
        },
        gate: GateConfig::paper(),
        perturb: Perturb {
            enabled: false,
            ..Perturb::default()
        },
        ..AdaptConfig::default()
    };
    let mut adapting = AdaptLoop::new(loaded.config.as_ref(), &loaded.params, &config).unwrap();
    let crops = golden["crops"].to_dtype(DType::F32).unwrap();

    let label = adapting.teacher.label(&crops).unwrap();
    assert!(largest_difference(&label.mean[0], &golden["flow"]) < 1e-3);
    assert!(largest_difference(&label.spread[0], &golden["spread"]) < 1e-3);
    assert!(largest_difference(&label.mean[1], &golden["probability"]) < 1e-3);

    let heads = adapting.student.model.heads();
    let masks = ConfidenceGate::new(config.gate, heads)
        .unwrap()
        .admit(heads, &label)
        .unwrap();
    for (mask, name) in masks.0.iter().zip(["flow_mask", "cell_mask"]) {
        let (ours, theirs) = (numbers(mask), numbers(&golden[name]));
        let equal = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        assert!(
            equal as f64 >= 0.999 * ours.len() as f64,
            "{name}: {equal} of {}",
            ours.len()
        );
    }

    let mut distance = 0.;
    for step in 0..2 {
        let report = adapting.step(&crops).unwrap();
        let at = |name: &str| f64::from(numbers(&golden[name])[step]);
        // The second step stands on Winograd's rounding of the first.
        let tolerance = if step == 0 { 1e-3 } else { 1e-2 };
        let pull = 0.5 * 1e-2 * at("distance");
        close(report.loss + report.pull, at("loss"), tolerance, "loss");
        close(
            report.parts.regression,
            at("regression"),
            tolerance,
            "regression",
        );
        close(
            report.parts.classification,
            at("classification"),
            tolerance,
            "classification",
        );
        if step == 1 {
            close(report.pull, pull, 1e-2, "pull");
        }
        distance = report.pull;
    }
    assert!(distance > 0.);

    for (role, params) in [
        ("student", &adapting.student.params),
        ("teacher", &adapting.teacher.network.params),
    ] {
        for (name, tensor, kind) in params.tensors() {
            let Some(recorded) = golden.get(&format!("{role}/{name}")) else {
                assert!(
                    kind == Role::Constant || !tensor.dtype().is_float(),
                    "{role}/{name}"
                );
                continue;
            };
            let norm = numbers(&tensor)
                .iter()
                .map(|v| f64::from(*v).powi(2))
                .sum::<f64>()
                .sqrt();
            let theirs = f64::from(numbers(recorded)[1]);
            // A bias that feeds a batch norm has no gradient but rounding, of which Adam makes whole steps.
            let noise = if name.ends_with("bias") {
                2. * config.learning_rate
            } else {
                2e-6
            };
            assert!(
                (norm - theirs).abs() <= 1e-4 * theirs + noise,
                "{role}/{name}: norm {norm} instead of {theirs}"
            );
        }
    }
}
