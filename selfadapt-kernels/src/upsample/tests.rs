//! Upsampling against plain definitions and finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{bilinear, nearest_2x};
use crate::gradcheck::{check, noisy};

const SIZES: [(usize, usize); 6] = [(1, 1), (1, 2), (2, 3), (3, 17), (17, 1), (5, 4)];

#[test]
fn gradients_agree_with_finite_differences() {
    for (h, w) in SIZES {
        check(&[noisy(3, &[2, 2, h, w])], |x| nearest_2x(&x[0]));
        for (oh, ow) in [(2 * h, 2 * w), (h, w), (7, 3), (1, 9), (2, 2)] {
            check(&[noisy(4, &[1, 2, h, w])], |x| bilinear(&x[0], oh, ow));
        }
    }
}

#[test]
fn nearest_repeats_every_pixel() -> Result<()> {
    for (h, w) in SIZES.into_iter().chain([(225, 225)]) {
        let x = noisy(1, &[1, 2, w, h])
            .to_dtype(DType::F32)?
            .transpose(2, 3)?;
        let expected = x.contiguous()?.upsample_nearest2d(2 * h, 2 * w)?;
        let difference = (nearest_2x(&x)? - expected)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        assert_eq!(difference, 0.0);
    }
    Ok(())
}

#[test]
fn nearest_accumulates_where_the_input_is_used_twice() -> Result<()> {
    // candle's own op answers 4 here.
    let x = Var::from_slice(&[1f32], (1, 1, 1, 1), &Device::Cpu)?;
    let twice = (nearest_2x(&x)?.sum_all()? + (x.as_tensor() * 10.0)?.sum_all()?)?;
    assert_eq!(
        twice
            .backward()?
            .get(&x)
            .unwrap()
            .flatten_all()?
            .to_vec1::<f32>()?,
        [14.0]
    );
    Ok(())
}

#[test]
fn bilinear_keeps_a_ramp_between_the_outer_pixel_centres() -> Result<()> {
    let ramp = Tensor::arange(0f64, 8.0, &Device::Cpu)?.reshape((1, 1, 1, 8))?;
    let y: Vec<f64> = bilinear(&ramp, 3, 16)?.flatten_all()?.to_vec1()?;
    for (i, y) in y.iter().enumerate() {
        let expected = ((i % 16) as f64 / 2.0 - 0.25).clamp(0.0, 7.0);
        assert!(
            (y - expected).abs() < 1e-12,
            "sample {i}: {y}, expected {expected}"
        );
    }
    Ok(())
}

#[test]
fn empty_batches_stay_empty() -> Result<()> {
    let x = Var::zeros((0, 3, 5, 4), DType::F32, &Device::Cpu)?;
    assert_eq!(nearest_2x(&x)?.dims(), [0, 3, 10, 8]);
    let y = bilinear(&x, 7, 9)?;
    assert_eq!(y.dims(), [0, 3, 7, 9]);
    assert_eq!(
        y.sum_all()?.backward()?.get(&x).unwrap().dims(),
        [0, 3, 5, 4]
    );
    Ok(())
}

#[test]
fn errors_name_the_operation_and_the_sizes() {
    let x = Tensor::zeros((1, 1, 2, 3), DType::F32, &Device::Cpu).unwrap();
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        message(bilinear(&x, 0, 4).unwrap_err()),
        "upsample bilinear: expected sides of at least 1, got 2x3 to 0x4"
    );
    assert_eq!(
        message(nearest_2x(&x.get(0).unwrap()).unwrap_err()),
        "upsample nearest_2x: expected an input of shape [B, C, H, W], got [1, 2, 3]"
    );
}
