//! The optimiser's bookkeeping; its arithmetic is compared with PyTorch in `golden.rs`.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{AdamW, Settings, gradient_norm};
use crate::gradcheck::noisy;

const SETTINGS: Settings = Settings {
    rate: 0.01,
    weight_decay: 0.05,
    l2sp: 0.2,
    scale: 1.0,
};

fn single(seed: u64, shape: &[usize]) -> Tensor {
    noisy(seed, shape).to_dtype(DType::F32).unwrap()
}

fn bits(var: &Var) -> Vec<f32> {
    var.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn resumes_bit_for_bit_and_tensors_on_loan_follow() -> Result<()> {
    // More than one chunk, and a remainder.
    let shape = [3, 40_003];
    let (start, anchor) = (single(1, &shape), single(2, &shape));
    let weight = Var::from_tensor(&start.copy()?)?;
    let lent = weight.as_detached_tensor();
    let mut optimizer = AdamW::default();
    for step in 0..3 {
        // A gradient need not be contiguous.
        let gradient = single(10 + step, &[40_003, 3]).t()?;
        optimizer.step(&[("w", &weight, &gradient, &anchor)], &SETTINGS)?;
    }
    let resumed_weight = Var::from_tensor(&lent.copy()?)?;
    let (steps, moments) = optimizer.state()?;
    let mut resumed = AdamW::default();
    resumed.restore(steps, moments)?;
    let gradient = single(20, &shape);
    let distance = optimizer.step(&[("w", &weight, &gradient, &anchor)], &SETTINGS)?;
    let expected = (resumed_weight.as_detached_tensor() - &anchor)?
        .to_dtype(DType::F64)?
        .sqr()?
        .sum_all()?;
    assert!((distance / expected.to_scalar::<f64>()? - 1.0).abs() < 1e-6);
    resumed.step(&[("w", &resumed_weight, &gradient, &anchor)], &SETTINGS)?;
    assert_eq!(bits(&weight), bits(&resumed_weight));
    assert_eq!(bits(&weight), lent.flatten_all()?.to_vec1::<f32>()?);
    Ok(())
}

#[test]
fn the_first_step_is_the_learning_rate_long() -> Result<()> {
    let weight = Var::from_slice(&[1f32, -2.0, 0.5], 3, &Device::Cpu)?;
    let anchor = weight.as_detached_tensor().copy()?;
    let gradient = Tensor::new(&[3f32, -0.1, 1e-3], &Device::Cpu)?;
    let settings = Settings {
        weight_decay: 0.0,
        ..SETTINGS
    };
    AdamW::default().step(&[("w", &weight, &gradient, &anchor)], &settings)?;
    for (w, expected) in bits(&weight).iter().zip([0.99, -1.99, 0.49]) {
        assert!((w - expected).abs() < 1e-5, "{w}, expected {expected}");
    }
    Ok(())
}

#[test]
fn the_gradient_norm_is_that_of_all_together() -> Result<()> {
    let a = Tensor::new(&[[3f32, 0.0], [0.0, 4.0]], &Device::Cpu)?.t()?;
    let b = Tensor::new(&[12f32], &Device::Cpu)?;
    assert_eq!(gradient_norm(&[&a, &b])?, 13.0);
    Ok(())
}

#[test]
fn nothing_moves_on_an_error() -> Result<()> {
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let weight = Var::from_tensor(&single(1, &[4]))?;
    let before = bits(&weight);
    let (gradient, anchor, wide) = (single(2, &[4]), single(3, &[4]), single(4, &[5]));
    let mut optimizer = AdamW::default();
    let good = ("w", &weight, &gradient, &anchor);
    assert_eq!(
        message(
            optimizer
                .step(&[good, ("v", &weight, &wide, &anchor)], &SETTINGS)
                .unwrap_err()
        ),
        "adamw: expected the gradient of v of shape [4] and type F32, got [5] and F32"
    );
    assert_eq!(
        message(optimizer.step(&[good, good], &SETTINGS).unwrap_err()),
        "adamw: expected every weight once, got w twice"
    );
    let own = weight.as_detached_tensor();
    assert_eq!(
        message(
            optimizer
                .step(&[("w", &weight, &gradient, &own)], &SETTINGS)
                .unwrap_err()
        ),
        "adamw: expected the anchor of w to be a tensor of its own, got the weight's storage"
    );
    assert_eq!(
        message(
            optimizer
                .step_with_ema(&[good], &[], 0.9, &SETTINGS)
                .unwrap_err()
        ),
        "adamw: expected as many teachers as weights (1), got 0"
    );
    assert_eq!(bits(&weight), before);
    assert_eq!(optimizer.state()?.0, 0);
    Ok(())
}
