//! Numbers without a symmetry for networks, and how far apart the results of two forms of one network are. Of no crate,
//! so that `selfadapt-models/tests/device` compares by the same.

use candle_core::{DType, Device, Tensor};
use selfadapt_core::error::Result;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;
use selfadapt_core::random_weights::random_weights;

/// Numbers from -1 to 1, others for each seed.
pub fn wave(shape: &[usize], seed: usize) -> Tensor {
    let len = shape.iter().product();
    let numbers: Vec<f32> = (0..len)
        .map(|i| ((i * 7919 + seed * 104_729) % 10_007) as f32 / 5003.5 - 1.)
        .collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// Weights and statistics without a zero, a one, or a symmetry.
pub fn weights(config: &dyn ModelConfig) -> ParamSet {
    let params = random_weights(config, 5).unwrap();
    for (index, (name, var, _)) in params.iter().enumerate() {
        if !var.dtype().is_float() || name.starts_with("diam") {
            continue;
        }
        let ripple = (wave(var.dims(), index) * 0.05).unwrap();
        let moved = (var.as_detached_tensor() + ripple).unwrap();
        var.set(&moved).unwrap();
    }
    params
}

/// A tensor's numbers, in row-major order.
pub fn numbers(tensor: &Tensor) -> Vec<f64> {
    if tensor.elem_count() == 0 {
        // candle cannot convert a part of nothing.
        return Vec::new();
    }
    let flat = tensor.flatten_all().unwrap();
    flat.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The length of numbers as a vector.
pub fn size(numbers: &[f64]) -> f64 {
    numbers.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The largest difference relative to the largest number.
pub fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (numbers(a), numbers(b));
    let largest = b.iter().fold(1e-30, |most: f64, v| most.max(v.abs()));
    let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    differences.fold(0., |most, d| if d.is_nan() { d } else { f64::max(most, d) }) / largest
}

/// A loss of all heads and the embedding.
pub fn loss(prediction: &Prediction) -> Result<Tensor> {
    let mut total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
    let maps = prediction.heads.iter().chain([&prediction.embedding]);
    for (index, map) in maps.enumerate() {
        let target = wave(map.dims(), 50 + index);
        total = (total + (map - target)?.sqr()?.mean_all()?)?;
    }
    Ok(total)
}
