//! Masked losses against finite differences, and where they could break.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{masked_bce_with_logits, masked_cross_entropy, masked_mse};
use crate::gradcheck::{check, noisy};

fn mask(seed: u64, shape: &[usize]) -> Tensor {
    noisy(seed, shape)
        .ge(-0.3)
        .unwrap()
        .to_dtype(DType::F32)
        .unwrap()
}

/// Positive numbers that add up to 1 along the channels.
fn probabilities(seed: u64, shape: &[usize]) -> Tensor {
    let e = noisy(seed, shape).exp().unwrap();
    e.broadcast_div(&e.sum_keepdim(1).unwrap()).unwrap()
}

fn number(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn gradients_agree_with_finite_differences() {
    for shape in [[2, 3, 4, 5], [1, 1, 1, 1], [1, 2, 17, 1], [2, 1, 3, 2]] {
        let (target, keep) = (probabilities(1, &shape), mask(2, &shape));
        let logits = &[(noisy(3, &shape) * 8.0).unwrap()];
        let [b, _, h, w] = shape;
        let pixels = mask(4, &[b, 1, h, w]);
        check(logits, |l| {
            masked_bce_with_logits(&l[0], &target, &keep)? * 3.0
        });
        check(logits, |l| masked_mse(&l[0], &target, &keep)? * 3.0);
        check(logits, |l| {
            masked_cross_entropy(&l[0], &target, &pixels)? * 3.0
        });
    }
}

#[test]
fn large_maps_agree_with_plain_tensor_operations() -> Result<()> {
    let shape = [2, 3, 225, 225];
    let logits = (noisy(3, &shape) * 8.0)?.transpose(2, 3)?;
    let target = probabilities(1, &shape);
    let (keep, pixels) = (mask(2, &shape), mask(4, &[2, 1, 225, 225]));
    let mean = |loss: Tensor, mask: &Tensor| -> Result<f64> {
        let mask = mask.to_dtype(DType::F64)?;
        Ok(number(&(loss * &mask)?.sum_all()?) / number(&mask.sum_all()?))
    };
    let plain_bce =
        ((logits.relu()? - (&logits * &target)?)? + (logits.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
    let plain_mse = (&logits - &target)?.sqr()?;
    let plain_ce = (&target
        * logits
            .exp()?
            .broadcast_div(&logits.exp()?.sum_keepdim(1)?)?
            .log()?)?
    .sum_keepdim(1)?
    .neg()?;
    for dtype in [DType::F32, DType::F64] {
        let tolerance = if dtype == DType::F32 { 1e-6 } else { 1e-12 };
        let (l, t) = (logits.to_dtype(dtype)?, target.to_dtype(dtype)?);
        for (got, expected) in [
            (
                masked_bce_with_logits(&l, &t, &keep)?,
                mean(plain_bce.clone(), &keep)?,
            ),
            (masked_mse(&l, &t, &keep)?, mean(plain_mse.clone(), &keep)?),
            (
                masked_cross_entropy(&l, &t, &pixels)?,
                mean(plain_ce.clone(), &pixels)?,
            ),
        ] {
            assert!(
                (number(&got) / expected - 1.0).abs() < tolerance,
                "{got}, expected {expected}"
            );
        }
    }
    Ok(())
}

#[test]
fn nothing_kept_costs_nothing_and_pulls_nowhere() -> Result<()> {
    let shape = [1, 2, 3, 5];
    let target = probabilities(1, &shape).to_dtype(DType::F32)?;
    let none = Tensor::zeros(&shape[..], DType::F32, &Device::Cpu)?;
    // What is masked may be anything.
    let logits = Var::from_tensor(&(none.clone() + f64::NAN)?)?;
    for loss in [
        masked_bce_with_logits(&logits, &target, &none)?,
        masked_mse(&logits, &target, &none)?,
        masked_cross_entropy(&logits, &target, &none.narrow(1, 0, 1)?)?,
    ] {
        assert_eq!(number(&loss), 0.0);
        let gradients = loss.backward()?;
        let gradient = gradients
            .get(&logits)
            .unwrap()
            .flatten_all()?
            .to_vec1::<f32>()?;
        assert!(gradient.iter().all(|&g| g == 0.0));
    }
    Ok(())
}

#[test]
fn extreme_logits_give_finite_losses() -> Result<()> {
    let logits = Var::from_slice(
        &[1000f32, -1000.0, 88.0, -104.0],
        (1, 2, 1, 2),
        &Device::Cpu,
    )?;
    let target = Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0], (1, 2, 1, 2), &Device::Cpu)?;
    let all = target.ones_like()?;
    // Losses 1000, 0, 0 and 104.
    let bce = masked_bce_with_logits(&logits, &target, &all)?;
    assert!((number(&bce) - 1104.0 / 4.0).abs() < 1e-3);
    let gradient = bce
        .backward()?
        .get(&logits)
        .unwrap()
        .flatten_all()?
        .to_vec1::<f32>()?;
    for (g, expected) in gradient.iter().zip([0.25, 0.0, 0.0, -0.25]) {
        assert!((g - expected).abs() < 1e-6, "{g}, expected {expected}");
    }
    // Pixel 0: logits 1000 and 88, class 1: 912. Pixel 1: -1000 and -104, class 1: 0.
    let ce = masked_cross_entropy(&logits, &target, &all.narrow(1, 0, 1)?)?;
    assert!((number(&ce) - 456.0).abs() < 1e-3);
    Ok(())
}

#[test]
fn an_empty_batch_costs_nothing() -> Result<()> {
    let logits = Var::zeros((0, 2, 3, 4), DType::F32, &Device::Cpu)?;
    let target = logits.zeros_like()?;
    for loss in [
        masked_bce_with_logits(&logits, &target, &target)?,
        masked_mse(&logits, &target, &target)?,
        masked_cross_entropy(&logits, &target, &target.narrow(1, 0, 1)?)?,
    ] {
        assert_eq!(number(&loss), 0.0);
        assert_eq!(loss.backward()?.get(&logits).unwrap().dims(), [0, 2, 3, 4]);
    }
    Ok(())
}

#[test]
fn errors_name_the_argument_and_what_was_expected() {
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let x = Tensor::zeros((1, 2, 3, 4), DType::F32, &Device::Cpu).unwrap();
    let one = x.narrow(1, 0, 1).unwrap();
    assert_eq!(
        message(masked_mse(&x, &one, &x).unwrap_err()),
        "masked_mse: expected the target of shape [1, 2, 3, 4] and type F32, got [1, 1, 3, 4] and F32"
    );
    assert_eq!(
        message(masked_cross_entropy(&x, &x, &x).unwrap_err()),
        "masked_cross_entropy: expected the mask of shape [1, 1, 3, 4] and type F32, got [1, 2, 3, 4] and F32"
    );
    let integers = x.to_dtype(DType::U32).unwrap();
    assert_eq!(
        message(masked_bce_with_logits(&integers, &integers, &x).unwrap_err()),
        "masked_bce_with_logits: expected f32 or f64, got U32"
    );
}
