//! Compares gradients of custom ops with central finite differences in f64.

use candle_core::{DType, Device, Result, Tensor, Var};

/// Numbers in (-1, 1) that look random and are the same everywhere.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect()
}

/// An f64 tensor of [`noise`].
pub(crate) fn noisy(seed: u64, shape: &[usize]) -> Tensor {
    let len = shape.iter().product();
    Tensor::from_vec(noise(seed, len), shape, &Device::Cpu).unwrap()
}

/// Checks the gradient of `sum(weights * f(inputs))` by every input, to 1e-6 of the largest derivative.
///
/// `f` must be smooth within 1e-5 of the inputs.
pub(crate) fn check(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(&t.copy().unwrap()).unwrap())
        .collect();
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let output = f(&tracked).unwrap();
    let weights = noisy(99, output.dims());
    let value = |inputs: &[Tensor]| -> f64 {
        let weighted = (f(inputs).unwrap() * &weights).unwrap();
        weighted.sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let gradients = (output * &weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    for (k, input) in inputs.iter().enumerate() {
        let Some(gradient) = gradients.get(&vars[k]) else {
            panic!("no gradient by input {k}")
        };
        assert_eq!(
            (gradient.dims(), gradient.dtype()),
            (input.dims(), DType::F64)
        );
        let analytic: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
        let values: Vec<f64> = input.flatten_all().unwrap().to_vec1().unwrap();
        let step = 1e-5;
        let shifted = |i: usize, by: f64| {
            let mut values = values.clone();
            values[i] += by;
            let mut inputs = inputs.to_vec();
            inputs[k] = Tensor::from_vec(values, input.dims(), &Device::Cpu).unwrap();
            value(&inputs)
        };
        let numeric: Vec<f64> = (0..values.len())
            .map(|i| (shifted(i, step) - shifted(i, -step)) / (2.0 * step))
            .collect();
        let largest = numeric.iter().fold(1e-3, |m: f64, d| m.max(d.abs()));
        for (i, (a, n)) in analytic.iter().zip(&numeric).enumerate() {
            assert!(
                (a - n).abs() <= 1e-6 * largest,
                "input {k}, element {i}: gradient {a}, finite difference {n}"
            );
        }
    }
}
