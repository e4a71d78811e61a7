//! Batch norm against its definition in plain tensor operations and finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{batch_norm_eval, batch_norm_train};
use crate::gradcheck::{check, noisy};

const EPS: f64 = 1e-5;

/// x, gamma, beta, mean, variance; gamma of both signs.
fn inputs(shape: &[usize]) -> Vec<Tensor> {
    let c = [shape[1]];
    let variance = (noisy(5, &c).abs().unwrap() + 0.1).unwrap();
    vec![
        noisy(1, shape),
        noisy(2, &c),
        noisy(3, &c),
        noisy(4, &c),
        variance,
    ]
}

fn per_channel(t: &Tensor) -> Result<Tensor> {
    t.reshape((1, (), 1, 1))
}

fn largest_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let difference = (a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?.abs()?;
    difference.flatten_all()?.max(0)?.to_scalar()
}

#[test]
fn gradients_agree_with_finite_differences() {
    for shape in [[2, 3, 4, 5], [1, 2, 3, 3], [3, 1, 1, 2], [2, 2, 1, 17]] {
        let all = inputs(&shape);
        for relu in [false, true] {
            check(&all[..3], |i| {
                Ok(batch_norm_train(&i[0], &i[1], &i[2], EPS, relu)?.y)
            });
            check(&all[..3], |i| {
                batch_norm_eval(&i[0], &i[1], &i[2], &all[3], &all[4], EPS, relu)
            });
        }
    }
}

#[test]
fn agrees_with_plain_tensor_operations() -> Result<()> {
    for (h, w) in [(1, 1), (2, 3), (17, 17), (225, 225)] {
        let all = inputs(&[2, 3, w, h]);
        let x = all[0].to_dtype(DType::F32)?.transpose(2, 3)?;
        let (gamma, beta) = (all[1].to_dtype(DType::F32)?, all[2].to_dtype(DType::F32)?);
        let normed = batch_norm_train(&x, &gamma, &beta, EPS, true)?;
        let exact = x.to_dtype(DType::F64)?;
        let mean = exact.mean_keepdim((0, 2, 3))?;
        let centred = exact.broadcast_sub(&mean)?;
        let variance = centred.sqr()?.mean_keepdim((0, 2, 3))?;
        let y = centred
            .broadcast_div(&(&variance + EPS)?.sqrt()?)?
            .broadcast_mul(&per_channel(&gamma.to_dtype(DType::F64)?)?)?
            .broadcast_add(&per_channel(&beta.to_dtype(DType::F64)?)?)?
            .relu()?;
        assert!(largest_difference(&normed.mean, &mean.flatten_all()?)? < 1e-7);
        assert!(largest_difference(&normed.variance, &variance.flatten_all()?)? < 1e-6);
        // A single pixel a channel has no variance: 1 / sqrt(eps) magnifies the rounding of its mean.
        let tolerance = if h * w == 1 { 1e-4 } else { 2e-6 };
        assert!(largest_difference(&normed.y, &y)? < tolerance);
        let again = batch_norm_eval(&x, &gamma, &beta, &normed.mean, &normed.variance, EPS, true)?;
        assert!(largest_difference(&again, &y)? < tolerance);
    }
    Ok(())
}

#[test]
fn moments_survive_a_mean_far_from_zero() -> Result<()> {
    let spread = noisy(7, &[2, 1, 100, 100]);
    let x = (&spread + 1000.0)?.to_dtype(DType::F32)?;
    let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
    let normed = batch_norm_train(&x, &one, &one.zeros_like()?, EPS, false)?;
    let x = x.to_dtype(DType::F64)?;
    let mean = x.mean_all()?;
    let variance = x
        .broadcast_sub(&mean)?
        .sqr()?
        .mean_all()?
        .to_scalar::<f64>()?;
    let got = normed.variance.to_vec1::<f32>()?[0];
    assert!(
        (f64::from(got) / variance - 1.0).abs() < 1e-5,
        "{got} for {variance}"
    );
    Ok(())
}

#[test]
fn an_empty_batch_has_no_moments_but_can_be_evaluated() -> Result<()> {
    let all = inputs(&[1, 3, 1, 1]);
    let x = Var::zeros((0, 3, 4, 4), DType::F64, &Device::Cpu)?;
    let error = batch_norm_train(&x, &all[1], &all[2], EPS, false).unwrap_err();
    assert!(
        error.to_string().contains("at least one pixel a channel"),
        "{error}"
    );
    let gamma = Var::from_tensor(&all[1])?;
    let y = batch_norm_eval(&x, &gamma, &all[2], &all[3], &all[4], EPS, false)?;
    assert_eq!(y.dims(), [0, 3, 4, 4]);
    let gradients = y.sum_all()?.backward()?;
    assert_eq!(gradients.get(&x).unwrap().dims(), [0, 3, 4, 4]);
    assert_eq!(gradients.get(&gamma).unwrap().to_vec1::<f64>()?, [0.0; 3]);
    Ok(())
}

#[test]
fn errors_name_the_argument_and_what_was_expected() {
    let all = inputs(&[1, 3, 2, 2]);
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let short = noisy(1, &[2]);
    assert_eq!(
        message(batch_norm_train(&all[0], &short, &all[2], EPS, false).unwrap_err()),
        "batch_norm: expected gamma of shape [3] and type F64, got [2] and F64"
    );
    let single = all[4].to_dtype(DType::F32).unwrap();
    assert_eq!(
        message(
            batch_norm_eval(&all[0], &all[1], &all[2], &all[3], &single, EPS, false).unwrap_err()
        ),
        "batch_norm: expected variance of shape [3] and type F64, got [3] and F32"
    );
}
