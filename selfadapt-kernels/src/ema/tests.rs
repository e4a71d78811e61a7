//! The moving average in place.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::ema;
use crate::gradcheck::noisy;

#[test]
fn moves_floats_and_copies_integers_where_they_lie() -> Result<()> {
    let start = noisy(1, &[70_001]).to_dtype(DType::F32)?;
    let student = noisy(2, &[70_001]).to_dtype(DType::F32)?;
    let teacher = Var::from_tensor(&start.copy()?)?;
    let lent = teacher.as_detached_tensor();
    let counter = Var::new(3i64, &Device::Cpu)?;
    let exact = Var::from_tensor(&noisy(3, &[2, 3]))?;
    let expected = ((&exact.as_detached_tensor() * 0.9)? + (noisy(4, &[3, 2]).t()? * 0.1)?)?;
    ema(
        &[&teacher, &counter, &exact],
        &[
            &student,
            &Tensor::new(7i64, &Device::Cpu)?,
            &noisy(4, &[3, 2]).t()?,
        ],
        0.9,
    )?;
    let moved = ((start * 0.9)? + (student * 0.1)?)?;
    let off = (lent - moved)?.abs()?.max(0)?.to_scalar::<f32>()?;
    assert!(off < 1e-7, "{off}");
    assert_eq!(counter.to_scalar::<i64>()?, 7);
    let off = (exact.as_detached_tensor() - expected)?
        .abs()?
        .flatten_all()?
        .max(0)?
        .to_scalar::<f64>()?;
    assert!(off < 1e-15, "{off}");
    Ok(())
}

#[test]
fn nothing_moves_on_an_error() -> Result<()> {
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let teacher = Var::zeros(2, DType::F32, &Device::Cpu)?;
    let one = Tensor::ones(2, DType::F32, &Device::Cpu)?;
    let wide = Tensor::ones(3, DType::F32, &Device::Cpu)?;
    assert_eq!(
        message(ema(&[&teacher, &teacher], &[&one, &wide], 0.5).unwrap_err()),
        "ema: expected student 1 of shape [2] and type F32, got [3] and F32"
    );
    assert_eq!(
        message(ema(&[&teacher], &[&teacher.as_detached_tensor()], 0.5).unwrap_err()),
        "ema: expected two networks, got teacher and student 0 on the same storage"
    );
    assert_eq!(
        message(ema(&[&teacher], &[&one], 1.5).unwrap_err()),
        "ema: expected a momentum between 0 and 1, got 1.5"
    );
    assert_eq!(
        message(ema(&[&teacher], &[], 0.5).unwrap_err()),
        "ema: expected as many students as teachers (1), got 0"
    );
    assert_eq!(teacher.to_vec1::<f32>()?, [0.0, 0.0]);
    Ok(())
}
