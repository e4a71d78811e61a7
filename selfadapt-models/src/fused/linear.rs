//! A matrix product plus a bias on the few numbers of a style, and its gradients.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, bail};

use super::with_numbers;
use crate::layers::Linear;

/// Maps `x` `[B, in]` to `[B, out]`, in f64.
///
/// # Errors
/// If the features do not fit.
pub(crate) fn linear(layer: &Linear, x: &[f64]) -> Result<Vec<f64>> {
    let (outputs, inputs) = layer.weight.dims2()?;
    if inputs == 0 || !x.len().is_multiple_of(inputs) {
        bail!(
            "linear: expected rows of {inputs} features, got {} in all",
            x.len()
        )
    }
    with_numbers(&layer.weight, |weight| {
        with_numbers(&layer.bias, |bias| {
            let mut y = Vec::with_capacity(x.len() / inputs * outputs);
            for x in x.chunks_exact(inputs) {
                for (row, bias) in weight.chunks_exact(inputs).zip(bias) {
                    let products = row.iter().zip(x).map(|(w, x)| f64::from(*w) * x);
                    y.push(f64::from(*bias) + products.sum::<f64>());
                }
            }
            Ok(y)
        })
    })
}

/// Given the gradient `dy` `[B, out]` of [`linear`]'s result, stores those of weight and bias and adds that of `x` to
/// `dx` `[B, in]`.
///
/// # Errors
/// If the features do not fit.
pub(crate) fn linear_backward(
    layer: &Linear,
    x: &[f64],
    dy: &[f64],
    dx: &mut [f64],
    gradients: &mut GradStore,
) -> Result<()> {
    let (outputs, inputs) = layer.weight.dims2()?;
    let (mut by_weight, mut by_bias) = (vec![0.0; outputs * inputs], vec![0.0; outputs]);
    with_numbers(&layer.weight, |weight| {
        let rows = x.chunks_exact(inputs).zip(dx.chunks_exact_mut(inputs));
        for ((x, dx), dy) in rows.zip(dy.chunks_exact(outputs)) {
            for (o, &dy) in dy.iter().enumerate() {
                by_bias[o] += dy;
                let weight = &weight[o * inputs..(o + 1) * inputs];
                let by_weight = &mut by_weight[o * inputs..(o + 1) * inputs];
                for (((by_weight, dx), &x), &w) in
                    by_weight.iter_mut().zip(dx.iter_mut()).zip(x).zip(weight)
                {
                    *by_weight += dy * x;
                    *dx += dy * f64::from(w);
                }
            }
        }
        Ok(())
    })?;
    let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect::<Vec<_>>();
    let device = layer.weight.device();
    let by_weight = Tensor::from_vec(narrow(by_weight), (outputs, inputs), device)?;
    gradients.insert(&layer.weight, by_weight);
    gradients.insert(
        &layer.bias,
        Tensor::from_vec(narrow(by_bias), outputs, device)?,
    );
    Ok(())
}
