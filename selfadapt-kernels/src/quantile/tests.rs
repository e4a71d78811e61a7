//! Quantiles against sorting.

use candle_core::{DType, Device, Result, Tensor};
use proptest::prelude::*;

use super::{quantile, quantile_per_channel};
use crate::gradcheck::{noise, noisy};

/// By sorting, in f64.
fn sorted(values: &[f32], q: f64) -> f32 {
    let mut values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    values.sort_by(f64::total_cmp);
    let position = q * (values.len() - 1) as f64;
    let (low, high) = (
        values[position.floor() as usize],
        values[position.ceil() as usize],
    );
    if low == high {
        low as f32
    } else {
        (low + position.fract() * (high - low)) as f32
    }
}

proptest! {
    #[test]
    fn agrees_with_sorting(values in prop::collection::vec(-1e30f32..1e30, 1..300), q in 0f64..=1.0) {
        prop_assert_eq!(quantile(&values, q).unwrap(), sorted(&values, q));
    }

    #[test]
    fn agrees_with_sorting_among_ties(values in prop::collection::vec(-3i8..3, 1..100), q in 0f64..=1.0) {
        let values: Vec<f32> = values.into_iter().map(f32::from).collect();
        prop_assert_eq!(quantile(&values, q).unwrap(), sorted(&values, q));
    }
}

#[test]
fn many_values_agree_with_sorting() {
    let values: Vec<f32> = noise(1, 300_001).iter().map(|&v| (v * v) as f32).collect();
    for q in [0.0, 0.2, 0.5, 0.8, 0.99999, 1.0] {
        assert_eq!(quantile(&values, q).unwrap(), sorted(&values, q));
    }
}

#[test]
fn signs_zeros_and_infinities_are_in_order() {
    let values = [
        f32::INFINITY,
        -0.0,
        0.0,
        -1.5,
        f32::NEG_INFINITY,
        2.0,
        f32::INFINITY,
    ];
    assert_eq!(quantile(&values, 0.0).unwrap(), f32::NEG_INFINITY);
    assert_eq!(quantile(&values, 1.0).unwrap(), f32::INFINITY);
    assert_eq!(quantile(&values, 0.95).unwrap(), f32::INFINITY);
    assert_eq!(quantile(&values, 0.5).unwrap(), 0.0);
}

#[test]
fn channels_and_masks_are_kept_apart() -> Result<()> {
    let x = noisy(1, &[3, 2, 17, 5])
        .to_dtype(DType::F32)?
        .transpose(2, 3)?;
    let mask = x.ge(0.1f32)?.to_dtype(DType::F32)?;
    for q in [0.1, 0.8] {
        let (all, some) = (
            quantile_per_channel(&x, None, q)?,
            quantile_per_channel(&x, Some(&mask), q)?,
        );
        for c in 0..2 {
            let values: Vec<f32> = x.narrow(1, c, 1)?.flatten_all()?.to_vec1()?;
            assert_eq!(all[c], Some(sorted(&values, q)));
            let kept: Vec<f32> = values.into_iter().filter(|&v| v >= 0.1).collect();
            assert_eq!(some[c], Some(sorted(&kept, q)));
        }
    }
    let none = mask.zeros_like()?;
    assert_eq!(quantile_per_channel(&x, Some(&none), 0.5)?, [None, None]);
    let empty = Tensor::zeros((0, 2, 3, 3), DType::F32, &Device::Cpu)?;
    assert_eq!(quantile_per_channel(&empty, None, 0.5)?, [None, None]);
    Ok(())
}

#[test]
fn a_masked_nan_does_not_count() -> Result<()> {
    let x = Tensor::new(&[[[[f32::NAN, 1.0, 3.0]]]], &Device::Cpu)?;
    let mask = Tensor::new(&[[[[0f32, 1.0, 1.0]]]], &Device::Cpu)?;
    assert_eq!(quantile_per_channel(&x, Some(&mask), 0.5)?, [Some(2.0)]);
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        message(quantile(&[], 0.5).unwrap_err()),
        "quantile: expected at least one value, got none"
    );
    assert_eq!(
        message(quantile(&[1.0, f32::NAN], 0.5).unwrap_err()),
        "quantile: expected numbers, got 1 NaN"
    );
    assert_eq!(
        message(quantile(&[1.0], 1.5).unwrap_err()),
        "quantile: expected a share between 0 and 1, got 1.5"
    );
}
