//! StarDist's loss of distances against its formula and against finite differences.

use candle_core::{DType, Device, Result, Tensor};

use super::{Penalty, star_loss};
use crate::gradcheck::{check, noisy};

const PENALTIES: [Penalty; 3] = [Penalty::Absolute, Penalty::Squared, Penalty::Overlap];

/// Predicted and right distances, and weights, some of them 0.
fn maps(shape: [usize; 4]) -> Result<[Tensor; 3]> {
    let [b, _, h, w] = shape;
    let right = (noisy(1, &shape).abs()? * 6.0)?;
    let predicted = ((noisy(2, &shape) * 5.0)? + &right)?;
    let weights = noisy(3, &[b, 1, h, w]).relu()?;
    Ok([predicted, right, weights])
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// The formula with plain tensor operations.
fn plain([p, t, m]: &[Tensor; 3], penalty: Penalty, background: f64) -> Result<f64> {
    let error = match penalty {
        Penalty::Absolute => (p - t)?.abs()?.mean_keepdim(1)?,
        Penalty::Squared => (p - t)?.sqr()?.mean_keepdim(1)?,
        Penalty::Overlap => {
            let shared = (p.sign()? * p.minimum(t)?.sqr()?)?.mean_keepdim(1)?;
            let union = (p.maximum(t)?.sqr()?.mean_keepdim(1)? + 1e-7)?;
            (1.0 - (shared / union)?)?
        }
    };
    let error = number(&(error * m)?.mean_all()?) / (number(&m.mean_all()?) + 1e-7);
    let length = (p.abs()?.mean_keepdim(1)? * (1.0 - m)?)?.mean_all()?;
    Ok(error + background * number(&length))
}

#[test]
fn it_is_the_formula() -> Result<()> {
    // The last has more pixels than one task takes.
    for shape in [[2, 3, 4, 5], [1, 1, 1, 1], [2, 5, 71, 67]] {
        let exact = maps(shape)?;
        for penalty in PENALTIES {
            let expected = plain(&exact, penalty, 0.3)?;
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
                let [p, t, m] = &exact;
                let (p, t) = (p.to_dtype(dtype)?, t.to_dtype(dtype)?);
                let found = number(&star_loss(&p, &t, &m.to_dtype(dtype)?, penalty, 0.3)?);
                assert!(
                    (found / expected - 1.).abs() < tolerance,
                    "{penalty:?} {shape:?}: {found} instead of {expected}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_agree_with_finite_differences() -> Result<()> {
    for shape in [[2, 3, 4, 5], [1, 1, 1, 1], [1, 4, 1, 300]] {
        let [predicted, right, weights] = maps(shape)?;
        for penalty in PENALTIES {
            check(std::slice::from_ref(&predicted), |p| {
                star_loss(&p[0], &right, &weights, penalty, 0.3)? * 3.0
            });
        }
    }
    Ok(())
}

#[test]
fn background_alone_pulls_to_zero() -> Result<()> {
    let shape = [1, 2, 3, 3];
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
    let predicted = Tensor::full(-4f32, &shape, &Device::Cpu)?;
    for penalty in PENALTIES {
        let weights = zeros(&[1, 1, 3, 3])?;
        let loss = star_loss(&predicted, &zeros(&shape)?, &weights, penalty, 1e-2)?;
        assert!((number(&loss) - 0.04).abs() < 1e-6, "{penalty:?}: {loss}");
    }
    Ok(())
}

#[test]
fn shapes_that_do_not_fit_are_named() -> Result<()> {
    let [predicted, right, weights] = maps([1, 3, 4, 4])?;
    let say = |right: &Tensor, weights: &Tensor| {
        let made = star_loss(&predicted, right, weights, Penalty::Absolute, 0.);
        made.unwrap_err().to_string()
    };
    let fewer = right.narrow(1, 0, 2)?;
    assert!(say(&fewer, &weights).contains("the right distances"));
    assert!(say(&right, &right).contains("the weights"));
    Ok(())
}
