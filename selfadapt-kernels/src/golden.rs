//! Compares kernels with what PyTorch answered, recorded by `tests/golden/make_kernels.py`.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::adamw::{AdamW, Settings};
use crate::batch_norm::{batch_norm_eval, batch_norm_train};
use crate::conv2d::{Algorithm, conv2d};
use crate::masked_loss::{masked_bce_with_logits, masked_cross_entropy, masked_mse};
use crate::max_pool::max_pool2d;
use crate::quantile::quantile_per_channel;
use crate::upsample::{bilinear, nearest_2x};
use crate::views::{Activation, View, ViewsMerge, turn};

/// The recorded arrays by case and name.
fn recorded() -> BTreeMap<String, BTreeMap<String, Tensor>> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/golden/kernels.safetensors"
    );
    let mut cases: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    let arrays = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    for (name, tensor) in arrays.into_iter().collect::<BTreeMap<_, _>>() {
        let (case, array) = name.split_once('/').unwrap();
        cases
            .entry(case.to_owned())
            .or_default()
            .insert(array.to_owned(), tensor);
    }
    cases
}

/// Fails unless every number is within `tolerance` of the recorded one, relative to the largest recorded one or 1.
fn agree(what: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let flat = |t: &Tensor| {
        t.to_dtype(DType::F64)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f64>()
            .unwrap()
    };
    let (got, expected) = (flat(got), flat(expected));
    let largest = expected.iter().fold(1f64, |m, e| m.max(e.abs()));
    for (i, (g, e)) in got.iter().zip(&expected).enumerate() {
        assert!(
            (g - e).abs() <= tolerance * largest,
            "{what}[{i}]: {g}, PyTorch says {e}"
        );
    }
}

/// Runs `f` on `inputs` and checks its output `y` and, from the recorded `dy`, the gradients by `inputs`.
fn check(
    case: &str,
    arrays: &BTreeMap<String, Tensor>,
    inputs: &[&str],
    tolerance: f64,
    f: impl Fn(&[Var]) -> Result<Tensor>,
) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|i| Var::from_tensor(&arrays[*i]).unwrap())
        .collect();
    let y = f(&vars).unwrap();
    agree(&format!("{case} y"), &y, &arrays["y"], tolerance);
    let gradients = (y * &arrays["dy"])
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    for (name, var) in inputs.iter().zip(&vars) {
        let expected = &arrays[&format!("d{name}")];
        agree(
            &format!("{case} d{name}"),
            gradients.get(var).unwrap(),
            expected,
            tolerance,
        );
    }
}

#[test]
fn layers_agree_with_pytorch() {
    let mut seen = 0;
    for (case, arrays) in &recorded() {
        let words: Vec<&str> = case.split('_').collect();
        let number = |i: usize| words[i].parse::<usize>().unwrap();
        seen += 1;
        // One pixel a channel: 1 / sqrt(eps) magnifies roundings, and gradients by x are their remains.
        let tolerance = if case.ends_with("one") { 2e-4 } else { 4e-6 };
        match words[0] {
            "batch" => {
                let relu = words[3] == "relu";
                check(
                    case,
                    arrays,
                    &["x", "gamma", "beta"],
                    tolerance,
                    |v| match words[2] {
                        "train" => {
                            let normed = batch_norm_train(&v[0], &v[1], &v[2], 1e-5, relu)?;
                            agree("mean", &normed.mean, &arrays["batch_mean"], 1e-6);
                            agree(
                                "variance",
                                &normed.variance,
                                &arrays["batch_variance"],
                                1e-6,
                            );
                            Ok(normed.y)
                        }
                        _ => batch_norm_eval(
                            &v[0],
                            &v[1],
                            &v[2],
                            &arrays["mean"],
                            &arrays["variance"],
                            1e-5,
                            relu,
                        ),
                    },
                );
            }
            "conv2d" => check(case, arrays, &["x", "weight", "bias"], 4e-6, |v| {
                conv2d(&v[0], &v[1], Some(&v[2]), number(2), Algorithm::Direct)
            }),
            "max" => check(case, arrays, &["x"], 1e-6, |v| {
                max_pool2d(&v[0], number(2), number(3))
            }),
            "nearest" => check(case, arrays, &["x"], 1e-6, |v| nearest_2x(&v[0])),
            "bilinear" => check(case, arrays, &["x"], 2e-6, |v| {
                bilinear(&v[0], number(3), number(4))
            }),
            _ => seen -= 1,
        }
    }
    assert_eq!(seen, 13 + 7 + 13 + 3 + 9);
}

#[test]
fn winograd_agrees_with_pytorch() {
    let cases = recorded();
    for case in ["conv2d_3_1_5_7", "conv2d_3_1_32_16"] {
        check(case, &cases[case], &["x", "weight", "bias"], 2e-5, |v| {
            conv2d(&v[0], &v[1], Some(&v[2]), 1, Algorithm::Winograd)
        });
    }
}

#[test]
fn losses_agree_with_pytorch() {
    let cases = recorded();
    type Loss = fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>;
    let losses: [(&str, Loss); 3] = [
        ("bce", masked_bce_with_logits),
        ("mse", masked_mse),
        ("cross_entropy", masked_cross_entropy),
    ];
    for (case, loss) in losses {
        let arrays = &cases[case];
        let prediction = Var::from_tensor(&arrays["prediction"]).unwrap();
        let value = loss(&prediction, &arrays["target"], &arrays["mask"]).unwrap();
        agree(case, &value, &arrays["loss"], 1e-6);
        let gradients = value.backward().unwrap();
        agree(
            case,
            gradients.get(&prediction).unwrap(),
            &arrays["gradient"],
            1e-8,
        );
    }
}

#[test]
fn views_agree_with_pytorch() {
    let cases = recorded();
    let named = |view: View| format!("{}_{}", if view.flip { "flip" } else { "keep" }, view.turns);
    let turns = &cases["turn"];
    let merged = &cases["views_merged"];
    let mut flows = ViewsMerge::new(Activation::Identity);
    let mut prob = ViewsMerge::new(Activation::Sigmoid);
    for view in View::ALL {
        agree(
            "turn",
            &turn(&turns["image"], view).unwrap(),
            &turns[&named(view)],
            0.0,
        );
        let output = &cases[&format!("views_{}", named(view))]["output"];
        // A quarter turn sends (dY, dX) to (-dX, dY), a flip to (dY, -dX); undone in reverse.
        let mut channels = [(0, 1.0), (1, 1.0)];
        for _ in 0..(4 - view.turns) % 4 {
            channels = [(channels[1].0, -channels[1].1), channels[0]];
        }
        if view.flip {
            channels[1].1 *= -1.0;
        }
        flows
            .push(&output.narrow(1, 0, 2).unwrap(), view, &channels)
            .unwrap();
        prob.push(&output.narrow(1, 2, 1).unwrap(), view, &[(0, 1.0)])
            .unwrap();
    }
    for (merge, name) in [(flows, "flow"), (prob, "prob")] {
        let (mean, spread) = merge.finish().unwrap();
        agree(name, &mean, &merged[&format!("{name}_mean")], 1e-6);
        agree(name, &spread, &merged[&format!("{name}_std")], 1e-6);
    }
}

#[test]
fn quantiles_agree_with_numpy() {
    let cases = recorded();
    let arrays = &cases["quantile"];
    let mut seen = 0;
    for (name, expected) in arrays {
        let Some(q) = name.strip_prefix('q') else {
            continue;
        };
        let found = quantile_per_channel(&arrays["values"], None, q.parse().unwrap()).unwrap();
        let found: Vec<f32> = found.into_iter().flatten().collect();
        agree(
            name,
            &Tensor::new(found, &Device::Cpu).unwrap(),
            expected,
            1e-7,
        );
        seen += 1;
    }
    assert_eq!(seen, 6);
}

#[test]
fn adamw_with_pull_and_teacher_agrees_with_pytorch() {
    let cases = recorded();
    let names = ["adamw_0", "adamw_1", "adamw_2"];
    let var = |name: &str, array: &str| Var::from_tensor(&cases[name][array]).unwrap();
    let weights = names.map(|n| var(n, "weight"));
    let teachers = names.map(|n| var(n, "teacher"));
    let mut optimizer = AdamW::default();
    for (step, rate) in [1e-2, 3e-2, 2e-2].into_iter().enumerate() {
        let gradient = format!("gradient{step}");
        let items: Vec<_> = names
            .iter()
            .zip(&weights)
            .map(|(n, w)| (*n, w, &cases[*n][&gradient], &cases[*n]["anchor"]))
            .collect();
        let settings = Settings {
            rate,
            weight_decay: 0.05,
            l2sp: 0.3,
            scale: 0.7,
        };
        let teachers_now: Vec<&Var> = teachers.iter().collect();
        optimizer
            .step_with_ema(&items, &teachers_now, 0.9, &settings)
            .unwrap();
        let (steps, moments) = optimizer.state().unwrap();
        assert_eq!(steps, step as u64 + 1);
        for (k, (name, first, second)) in moments.iter().enumerate() {
            let at = |array: &str| &cases[name][&format!("{array}{step}")];
            agree(
                "weight",
                &weights[k].as_detached_tensor(),
                at("weight"),
                1e-6,
            );
            agree(
                "teacher",
                &teachers[k].as_detached_tensor(),
                at("teacher"),
                1e-6,
            );
            agree("first moment", first, at("first"), 1e-6);
            agree("second moment", second, at("second"), 1e-6);
        }
    }
}
