//! Convolution and its gradients in `f64`, by their definition: for gradient checks and as the tests' oracle.

use super::geometry::Geometry;
use rayon::prelude::*;

/// Calls `visit(kernel index, input position)` for every tap of output position `at` inside `0..size`.
fn taps(geometry: &Geometry, at: usize, size: usize, mut visit: impl FnMut(usize, usize)) {
    for k in 0..geometry.kernel() {
        if let Some(position) = (at * geometry.stride() + k).checked_sub(geometry.padding())
            && position < size
        {
            visit(k, position);
        }
    }
}

/// Calls `visit(output pixel, kernel index, input pixel)` for every product of one pair of planes.
fn products(geometry: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let (height, width, k) = (geometry.height(), geometry.width(), geometry.kernel());
    for y in 0..geometry.out_height() {
        for x in 0..geometry.out_width() {
            taps(geometry, y, height, |ky, iy| {
                taps(geometry, x, width, |kx, ix| {
                    visit(y * geometry.out_width() + x, ky * k + kx, iy * width + ix);
                });
            });
        }
    }
}

struct Sizes {
    input: usize,
    output: usize,
    taps: usize,
}

fn sizes(geometry: &Geometry) -> Sizes {
    Sizes {
        input: geometry.height() * geometry.width(),
        output: geometry.out_height() * geometry.out_width(),
        taps: geometry.kernel() * geometry.kernel(),
    }
}

/// `[B, Co, Ho, Wo]` from the input `[B, Ci, H, W]`, the weight `[Co, Ci, k, k]` and a bias `[Co]`.
pub(crate) fn forward(
    geometry: &Geometry,
    input: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
) -> Vec<f64> {
    let Sizes {
        input: from,
        output: to,
        taps,
    } = sizes(geometry);
    let (ci, co) = (geometry.in_channels(), geometry.out_channels());
    let mut output = vec![0.0; geometry.output_len()];
    output
        .par_chunks_mut(to.max(1))
        .enumerate()
        .for_each(|(plane, sums)| {
            let (image, o) = (plane / co, plane % co);
            sums.fill(bias.map_or(0.0, |bias| bias[o]));
            for c in 0..ci {
                let pixels = &input[(image * ci + c) * from..][..from];
                let weight = &weight[(o * ci + c) * taps..][..taps];
                products(geometry, |at, tap, pixel| {
                    sums[at] += weight[tap] * pixels[pixel]
                });
            }
        });
    output
}

/// `[B, Ci, H, W]` from the gradient by the output.
pub(crate) fn backward_data(geometry: &Geometry, gradient: &[f64], weight: &[f64]) -> Vec<f64> {
    let Sizes {
        input: to,
        output: from,
        taps,
    } = sizes(geometry);
    let (ci, co) = (geometry.in_channels(), geometry.out_channels());
    let mut output = vec![0.0; geometry.input_len()];
    output
        .par_chunks_mut(to.max(1))
        .enumerate()
        .for_each(|(plane, sums)| {
            let (image, c) = (plane / ci, plane % ci);
            for o in 0..co {
                let gradient = &gradient[(image * co + o) * from..][..from];
                let weight = &weight[(o * ci + c) * taps..][..taps];
                products(geometry, |at, tap, pixel| {
                    sums[pixel] += weight[tap] * gradient[at]
                });
            }
        });
    output
}

/// `[Co, Ci, k, k]` from the input and the gradient by the output.
pub(crate) fn backward_weight(geometry: &Geometry, input: &[f64], gradient: &[f64]) -> Vec<f64> {
    let Sizes {
        input: pixels,
        output: outputs,
        taps,
    } = sizes(geometry);
    let (ci, co) = (geometry.in_channels(), geometry.out_channels());
    let mut output = vec![0.0; geometry.weight_len()];
    output
        .par_chunks_mut(taps)
        .enumerate()
        .for_each(|(filter, sums)| {
            let (o, c) = (filter / ci, filter % ci);
            for image in 0..geometry.batch() {
                let input = &input[(image * ci + c) * pixels..][..pixels];
                let gradient = &gradient[(image * co + o) * outputs..][..outputs];
                products(geometry, |at, tap, pixel| {
                    sums[tap] += gradient[at] * input[pixel]
                });
            }
        });
    output
}

/// `[Co]` from the gradient by the output.
pub(crate) fn backward_bias(geometry: &Geometry, gradient: &[f64]) -> Vec<f64> {
    let plane = sizes(geometry).output;
    let co = geometry.out_channels();
    let mut output = vec![0.0; co];
    if plane > 0 {
        for (i, values) in gradient.chunks_exact(plane).enumerate() {
            output[i % co] += values.iter().sum::<f64>();
        }
    }
    output
}
