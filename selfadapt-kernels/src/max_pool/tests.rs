//! Max pooling against a plain definition and finite differences.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::max_pool2d;
use crate::gradcheck::{check, noisy};

/// Every value differs from every other by at least 1/7, so that a finite difference keeps each maximum.
fn distinct(shape: &[usize]) -> Tensor {
    let len: usize = shape.iter().product();
    let values = (0..len)
        .map(|i| ((i * 7919) % 10_007) as f64 / 7.0)
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn grid(values: &[f32], h: usize, w: usize) -> Tensor {
    Tensor::from_slice(values, (1, 1, h, w), &Device::Cpu).unwrap()
}

fn gradient_of_sum(x: &Tensor, kernel: usize, stride: usize) -> Vec<f32> {
    let x = Var::from_tensor(x).unwrap();
    let y = max_pool2d(&x, kernel, stride).unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    gradients
        .get(&x)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn pools_and_routes_gradients_by_finite_differences() {
    for (kernel, stride) in [(2, 2), (1, 1), (3, 2), (2, 1), (2, 3), (3, 3)] {
        for (h, w) in [(3, 3), (4, 6), (5, 7), (17, 3)] {
            check(&[distinct(&[2, 3, h, w])], |x| {
                max_pool2d(&x[0], kernel, stride)
            });
        }
    }
}

#[test]
fn first_maximum_takes_the_gradient_of_ties() {
    let ties = grid(&[5.0; 16], 4, 4);
    let mut expected = [0.0; 16];
    for i in [0, 2, 8, 10] {
        expected[i] = 1.0;
    }
    assert_eq!(gradient_of_sum(&ties, 2, 2), expected);
    let x = grid(&[0.0, 1.0, 1.0, 1.0], 2, 2);
    assert_eq!(gradient_of_sum(&x, 2, 2), [0.0, 1.0, 0.0, 0.0]);
}

#[test]
fn overlapping_windows_add_their_gradients() {
    let x = grid(&[0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0], 3, 3);
    let mut expected = [0.0; 9];
    expected[4] = 4.0;
    assert_eq!(gradient_of_sum(&x, 2, 1), expected);
}

#[test]
fn nan_wins_as_in_pytorch() {
    for at in 0..4 {
        let mut values = [1.0, 2.0, 3.0, 4.0];
        values[at] = f32::NAN;
        for kernel_one_path in [false, true] {
            // A 2x2 window by the special path, and by the general one (stride 1).
            let stride = if kernel_one_path { 1 } else { 2 };
            let y = max_pool2d(&grid(&values, 2, 2), 2, stride).unwrap();
            assert!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
        }
    }
}

#[test]
fn both_paths_agree_on_odd_sizes_and_strided_input() -> Result<()> {
    for (h, w) in [(2, 2), (3, 17), (225, 225), (17, 2)] {
        let x = noisy(1, &[2, 2, w, h])
            .to_dtype(DType::F32)?
            .transpose(2, 3)?;
        let fast = max_pool2d(&x, 2, 2)?;
        // Every second result of a stride of 1 goes through the general path.
        let general = max_pool2d(&x, 2, 1)?;
        let (oh, ow) = (h / 2, w / 2);
        let rows = Tensor::arange_step(0u32, 2 * oh as u32, 2, &Device::Cpu)?;
        let columns = Tensor::arange_step(0u32, 2 * ow as u32, 2, &Device::Cpu)?;
        let general = general.index_select(&rows, 2)?.index_select(&columns, 3)?;
        let bytes = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        assert_eq!(bytes(&fast)?, bytes(&general)?);
    }
    Ok(())
}

#[test]
fn an_empty_batch_pools_to_an_empty_batch() -> Result<()> {
    let x = Var::zeros((0, 3, 5, 4), DType::F32, &Device::Cpu)?;
    let y = max_pool2d(&x, 2, 2)?;
    assert_eq!(y.dims(), [0, 3, 2, 2]);
    assert_eq!(
        y.sum_all()?.backward()?.get(&x).unwrap().dims(),
        [0, 3, 5, 4]
    );
    Ok(())
}

#[test]
fn errors_name_the_operation_and_the_sizes() {
    let x = grid(&[1.0; 6], 2, 3);
    let message =
        |e: candle_core::Error| e.to_string().lines().next().unwrap_or_default().to_owned();
    assert_eq!(
        message(max_pool2d(&x, 3, 2).unwrap_err()),
        "max_pool2d: expected an image of at least 3x3, got 2x3"
    );
    assert_eq!(
        message(max_pool2d(&x, 2, 0).unwrap_err()),
        "max_pool2d: expected a kernel and a stride of at least 1, got 2 and 0"
    );
    assert_eq!(
        message(max_pool2d(&x.squeeze(0).unwrap(), 2, 2).unwrap_err()),
        "max_pool2d: expected an input of shape [B, C, H, W], got [1, 2, 3]"
    );
    let integers = x.to_dtype(DType::U32).unwrap();
    assert_eq!(
        message(max_pool2d(&integers, 2, 2).unwrap_err()),
        "max_pool2d: expected f32 or f64, got U32"
    );
}
