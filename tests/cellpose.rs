//! Our Cellpose against Cellpose 3.1.1: the network in both modes, whole images, instances.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use ndarray::ArrayD;
use selfadapt_core::model::{Mode, SegmentationModel, Sizing};
use selfadapt_core::params::{Lend, ParamSet, Role};
use selfadapt_models::cellpose::CellposeConfig;
use selfadapt_models::cellpose::net::{CpNet, style};
use selfadapt_models::format;

use crate::npz::Npz;

/// The parameters of the reference checkpoint.
fn params(dir: &Path) -> ParamSet {
    format::open(dir.join("cellpose/cyto_scellseg.pt"))
        .unwrap()
        .params
}

fn network(params: &ParamSet, lend: Lend) -> CpNet {
    let nbase = CellposeConfig::default().nbase;
    params
        .lend(lend, |weights| CpNet::load(&nbase, &weights))
        .unwrap()
}

fn tensor(array: &ArrayD<f32>) -> Tensor {
    Tensor::from_slice(array.as_slice().unwrap(), array.shape(), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0., |largest, d| if d.is_nan() { d } else { largest.max(d) })
}

#[test]
fn the_network_in_eval_mode_is_cellposes() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let net = network(&params(&dir), Lend::Detached);
    for image in ["mouse_00", "mouse_05", "dsb_00", "stardist_img2d"] {
        let mut npz = Npz::open(dir.join(format!("cellpose/net_{image}.npz")));
        let input = tensor(&npz.f32("input")).unsqueeze(0).unwrap();
        let found = net.forward(&input, Mode::Eval).unwrap();
        let output = values(&Tensor::cat(&found.heads, 1).unwrap());
        // Two of the arrays are stored in half precision, values up to 17.
        let stored = if image.starts_with("mouse") {
            1e-3
        } else {
            1e-2
        };
        let expected = npz.f32("output");
        let difference = largest_difference(&output, expected.as_slice().unwrap());
        assert!(
            difference < stored,
            "{image}: output differs by {difference}"
        );

        let difference = largest_difference(
            &values(&style(&found.embedding).unwrap()),
            npz.f32("style").as_slice().unwrap(),
        );
        assert!(difference < 1e-5, "{image}: style differs by {difference}");

        let deepest = npz
            .f32("deepest")
            .into_shape_with_order((256, 28 * 28))
            .unwrap();
        let pooled = deepest.mean_axis(ndarray::Axis(1)).unwrap();
        let difference = largest_difference(&values(&found.embedding), pooled.as_slice().unwrap());
        assert!(
            difference < 1e-3,
            "{image}: embedding differs by {difference}"
        );
    }
}

/// Cellpose's supervised loss: MSE(flows, 5 target) / 2 + BCE(logit, target).
fn supervised_loss(heads: &[Tensor], target: &Tensor) -> candle_core::Result<Tensor> {
    let flows = (target.narrow(1, 1, 2)? * 5.)?;
    let cells = target.narrow(1, 0, 1)?.gt(0.5)?.to_dtype(DType::F32)?;
    let flow = ((&heads[0] - flows)?.sqr()?.mean_all()? * 0.5)?;
    let logits = &heads[1];
    let hinge = (logits.relu()? - (logits * cells)?)?;
    let soft = ((logits.abs()?.neg()?.exp()? + 1.)?.log()?).mean_all()?;
    flow + (hinge.mean_all()? + soft)?
}

#[test]
fn a_training_step_is_cellposes() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let mut npz = Npz::open(dir.join("cellpose/train_step.npz"));
    let record = std::fs::read_to_string(dir.join("cellpose/train_step.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let params = params(&dir);
    let net = network(&params, Lend::Tracked);
    let (input, target) = (tensor(&npz.f32("input")), tensor(&npz.f32("target")));

    let mut loss = 0.;
    let gradients = net
        .backward(&input, Mode::Train, &mut |prediction| {
            let scalar = supervised_loss(&prediction.heads, &target)?;
            loss = f64::from(scalar.to_scalar::<f32>()?);
            Ok(scalar)
        })
        .unwrap();
    let expected = record["loss_f64"].as_f64().unwrap();
    assert!(
        (loss / expected - 1.).abs() < 1e-4,
        "loss {loss}, expected {expected}"
    );

    let zero: Vec<&str> = record["zero_gradient_by_construction"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut worst: (f64, &str) = (0., "");
    for (name, var) in params.trainable() {
        let gradient = gradients
            .get(var)
            .unwrap_or_else(|| panic!("{name}: no gradient"));
        let squares: f64 = values(gradient).iter().map(|&g| f64::from(g).powi(2)).sum();
        let norm = squares.sqrt();
        if zero.contains(&name) {
            assert!(norm < 5e-6, "{name}: gradient {norm} where 0 is due");
        } else {
            let expected = record["grad_norm_f64"][name].as_f64().unwrap();
            let off = (norm / expected - 1.).abs();
            assert!(off < 0.01, "{name}: gradient {norm}, expected {expected}");
            if off > worst.0 {
                worst = (off, name);
            }
        }
        let key = format!("grad.{name}");
        if npz.names().contains(&key) {
            let expected = npz.f32(&key);
            let difference = largest_difference(&values(gradient), expected.as_slice().unwrap());
            let largest = expected.iter().fold(0f32, |most, g| most.max(g.abs()));
            assert!(
                difference < 0.01 * largest,
                "{name}: gradient differs by {difference}"
            );
        }
    }
    println!("largest deviation of a gradient's norm: {worst:?}");

    for norm in [
        "downsample.down.res_down_0.proj.0",
        "downsample.down.res_down_3.conv.conv_3.0",
        "output.0",
    ] {
        for statistic in ["running_mean", "running_var"] {
            let name = format!("{norm}.{statistic}");
            let found = values(params.get(&name).unwrap());
            let expected = npz.f32(&format!("{name}.after"));
            let difference = largest_difference(&found, expected.as_slice().unwrap());
            let largest = expected.iter().fold(1f32, |most, v| most.max(v.abs()));
            assert!(
                difference < 1e-4 * largest,
                "{name} differs by {difference}"
            );
        }
        let name = format!("{norm}.num_batches_tracked");
        let found = params.get(&name).unwrap().to_scalar::<i64>().unwrap();
        assert_eq!(found, npz.i64(&format!("{name}.after"))[[]], "{name}");
    }
}

#[test]
fn a_written_checkpoint_says_the_diameters_of_its_configuration() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let loaded = format::open(dir.join("cellpose/cyto_scellseg.pt")).unwrap();
    let config = loaded.config.sized(Sizing::Diameter(12.)).unwrap();
    let save = format::named("cellpose").unwrap().save.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapted");
    save(
        &path,
        config.as_ref(),
        &loaded.params,
        &loaded.provenance.layout,
    )
    .unwrap();
    let again = format::open(&path).unwrap();
    assert_eq!(
        again.config.working_scale(Sizing::Native).unwrap(),
        30. / 12.
    );
    assert_eq!(again.params.len(), 313);
    assert_eq!(
        again.provenance.layout.order,
        loaded.provenance.layout.order
    );
    for (name, tensor, role) in again.params.tensors() {
        let same = tensor.dtype() != DType::F32
            || values(&tensor) == values(loaded.params.get(name).unwrap());
        assert!(same || name == "diam_labels", "{name} changed");
        assert_eq!(role == Role::Constant, name.starts_with("diam_"), "{name}");
    }
    // Built-in models for nuclei are known by their name.
    let nuclei = folder.path().join("nucleitorch_0");
    std::fs::copy(&path, &nuclei).unwrap();
    let nuclei = format::open(&nuclei).unwrap();
    assert_eq!(
        nuclei.config.working_scale(Sizing::Diameter(17.)).unwrap(),
        1.
    );
}
