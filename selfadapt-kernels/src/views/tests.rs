//! Views and their undoing, on scalars, vectors and rays.

use candle_core::{DType, Device, Result, Tensor};

use super::{Activation, View, ViewsMerge, turn};
use crate::gradcheck::{check, noisy};

type Channels = Vec<(usize, f32)>;

/// How channels change when a scalar map is turned by `view`.
fn scalar(_: View) -> Channels {
    vec![(0, 1.0)]
}

/// (dY, dX): a flip negates dX, a quarter turn counter-clockwise makes them (-dX, dY).
fn vector(view: View) -> Channels {
    let mut map = vec![(0, 1.0), (1, if view.flip { -1.0 } else { 1.0 })];
    for _ in 0..view.turns {
        map = vec![(map[1].0, -map[1].1), map[0]];
    }
    map
}

/// Eight distances, ray k along 2 pi k / 8 from +x towards +y: a flip sends k to 4 - k, a turn shifts by 2.
fn rays(view: View) -> Channels {
    let flipped = |k: usize| if view.flip { (12 - k) % 8 } else { k };
    (0..8)
        .map(|k| (flipped((k + 2 * usize::from(view.turns)) % 8), 1.0))
        .collect()
}

/// The view of a map: pixels moved by `turn`, channels by `channels`.
fn seen(map: &Tensor, view: View, channels: &Channels) -> Tensor {
    let turned = turn(map, view).unwrap();
    let planes: Vec<Tensor> = channels
        .iter()
        .map(|&(from, sign)| {
            turned
                .narrow(1, from, 1)
                .unwrap()
                .affine(f64::from(sign), 0.0)
                .unwrap()
        })
        .collect();
    Tensor::cat(&planes, 1).unwrap()
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    let difference = (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    difference
        .flatten_all()
        .unwrap()
        .max(0)
        .unwrap()
        .to_scalar()
        .unwrap()
}

#[test]
fn a_view_and_its_inverse_are_the_identity() {
    for (n, layout) in [(1, scalar as fn(View) -> Channels), (2, vector), (8, rays)] {
        for (h, w) in [(1, 1), (2, 3), (17, 3), (33, 40), (225, 18)] {
            let map = noisy(1, &[2, n, h, w]).to_dtype(DType::F32).unwrap();
            let mut all = ViewsMerge::new(Activation::Identity);
            for view in View::ALL {
                let output = seen(&map, view, &layout(view));
                let mut one = ViewsMerge::new(Activation::Identity);
                one.push(&output, view, &layout(view.inverse())).unwrap();
                let (mean, spread) = one.finish().unwrap();
                assert_eq!(largest_difference(&mean, &map), 0.0, "{view:?} {n} {h}x{w}");
                assert_eq!(largest_difference(&spread, &map.zeros_like().unwrap()), 0.0);
                assert_eq!(
                    largest_difference(
                        &turn(&turn(&map, view).unwrap(), view.inverse()).unwrap(),
                        &map
                    ),
                    0.0
                );
                all.push(&output, view, &layout(view.inverse())).unwrap();
            }
            let (mean, spread) = all.finish().unwrap();
            assert!(largest_difference(&mean, &map) < 1e-6);
            assert!(largest_difference(&spread, &map.zeros_like().unwrap()) < 1e-6);
        }
    }
}

#[test]
fn a_quarter_turn_is_counter_clockwise() -> Result<()> {
    let x = Tensor::new(&[[[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]]]], &Device::Cpu)?;
    let turned = turn(
        &x,
        View {
            flip: false,
            turns: 1,
        },
    )?;
    assert_eq!(turned.dims(), [1, 1, 3, 2]);
    assert_eq!(
        turned.flatten_all()?.to_vec1::<f32>()?,
        [3.0, 6.0, 2.0, 5.0, 1.0, 4.0]
    );
    let flipped = turn(
        &x,
        View {
            flip: true,
            turns: 0,
        },
    )?;
    assert_eq!(
        flipped.flatten_all()?.to_vec1::<f32>()?,
        [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]
    );
    Ok(())
}

#[test]
fn turning_is_differentiable() {
    for view in View::ALL {
        check(&[noisy(1, &[1, 2, 3, 2])], |x| turn(&x[0], view));
    }
}

#[test]
fn merges_strided_outputs_after_activation() -> Result<()> {
    let outputs: Vec<Tensor> = (0..3).map(|s| noisy(s, &[2, 5, 4, 3])).collect();
    let stacked = Tensor::stack(&outputs, 0)?.narrow(2, 1, 3)?;
    let softmax = {
        let e = stacked.exp()?;
        e.broadcast_div(&e.sum_keepdim(2)?)?
    };
    let sigmoid = ((stacked.neg()?.exp()? + 1.0)?.recip())?;
    for (activation, active) in [
        (Activation::Identity, stacked),
        (Activation::Sigmoid, sigmoid),
        (Activation::Softmax, softmax),
    ] {
        let channels = [(2, 1.0), (0, -1.0), (0, 1.0)];
        let mut merge = ViewsMerge::new(activation);
        let view = View {
            flip: false,
            turns: 0,
        };
        for output in &outputs {
            merge.push(&output.narrow(1, 1, 3)?, view, &channels)?;
        }
        let (mean, spread) = merge.finish()?;
        for (k, (from, sign)) in channels.into_iter().enumerate() {
            let source = active.narrow(2, from, 1)?.affine(f64::from(sign), 0.0)?;
            let expected = source.mean(0)?;
            let deviation = source.broadcast_sub(&expected)?.sqr()?.mean(0)?.sqrt()?;
            assert!(largest_difference(&mean.narrow(1, k, 1)?, &expected) < 1e-12);
            assert!(largest_difference(&spread.narrow(1, k, 1)?, &deviation) < 1e-12);
        }
    }
    Ok(())
}

#[test]
fn spread_survives_a_mean_far_from_zero() -> Result<()> {
    let mut merge = ViewsMerge::new(Activation::Identity);
    for value in [1000f32, 1000.5, 1001.0, 1000.5] {
        let output = Tensor::full(value, (1, 1, 2, 2), &Device::Cpu)?;
        merge.push(&output, View::ALL[0], &[(0, 1.0)])?;
    }
    let spread = merge.finish()?.1.flatten_all()?.to_vec1::<f32>()?;
    let expected = (0.5f32 / 4.0).sqrt();
    assert!(
        spread.iter().all(|s| (s - expected).abs() < 1e-4),
        "{spread:?}, expected {expected}"
    );
    Ok(())
}

#[test]
fn empty_batches_merge_to_empty_batches() -> Result<()> {
    let x = Tensor::zeros((0, 2, 3, 4), DType::F32, &Device::Cpu)?;
    assert_eq!(turn(&x, View::ALL[1])?.dims(), [0, 2, 4, 3]);
    let mut merge = ViewsMerge::new(Activation::Softmax);
    merge.push(&x, View::ALL[1], &[(0, 1.0), (1, 1.0)])?;
    assert_eq!(merge.finish()?.0.dims(), [0, 2, 4, 3]);
    Ok(())
}

#[test]
fn errors_say_what_was_expected() {
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    let x = noisy(1, &[1, 2, 3, 4]);
    let mut merge = ViewsMerge::new(Activation::Identity);
    assert_eq!(
        message(merge.push(&x, View::ALL[0], &[(2, 1.0)]).unwrap_err()),
        "views merge: expected source channels below 2, got 2"
    );
    merge.push(&x, View::ALL[0], &[(0, 1.0)]).unwrap();
    assert_eq!(
        message(merge.push(&x, View::ALL[1], &[(0, 1.0)]).unwrap_err()),
        "views merge: expected a view that undoes to [1, 1, 3, 4], got [1, 1, 4, 3]"
    );
    let single = x.to_dtype(DType::F32).unwrap();
    assert_eq!(
        message(merge.push(&single, View::ALL[0], &[(0, 1.0)]).unwrap_err()),
        "views merge: expected the type of the first view, got F32"
    );
    assert_eq!(
        message(ViewsMerge::new(Activation::Identity).finish().unwrap_err()),
        "views merge: expected at least one view, got none"
    );
}
