//! What is done while packing and storing, against the same steps written out in `f64`.

use super::{error, geometry, noise, on_every_level, tolerance, wide};
use crate::conv2d::*;
use crate::simd_vector::Level;

/// The operands of a fused call over a tensor `[B, C, H, W]`, and what the channel of element `i` is.
struct Operands {
    channels: usize,
    plane: usize,
    values: Vec<f32>,
    second: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    second_scale: Vec<f32>,
}

impl Operands {
    fn new(batch: usize, channels: usize, plane: usize, seed: u64) -> Self {
        let len = batch * channels * plane;
        Self {
            channels,
            plane,
            values: noise(len, seed),
            second: noise(len, seed + 1),
            scale: noise(channels, seed + 2),
            shift: noise(batch * channels, seed + 3),
            second_scale: noise(channels, seed + 4),
        }
    }

    fn affine(&self) -> Affine<'_> {
        Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }

    fn input(&self, relu: bool) -> Input<'_> {
        Input {
            values: &self.values,
            affine: Some(self.affine()),
            second: Some(Term {
                values: &self.second,
                scale: &self.second_scale,
            }),
            relu,
        }
    }

    /// `scale * values + shift`, element `i`.
    fn affine_of(&self, i: usize) -> f64 {
        let (channel, image_channel) = (i / self.plane % self.channels, i / self.plane);
        f64::from(self.values[i]) * f64::from(self.scale[channel])
            + f64::from(self.shift[image_channel])
    }

    /// What [`Operands::input`] stands for.
    fn changed(&self, relu: bool) -> Vec<f64> {
        (0..self.values.len())
            .map(|i| {
                let channel = i / self.plane % self.channels;
                let second = f64::from(self.second[i]) * f64::from(self.second_scale[channel]);
                let sum = self.affine_of(i) + second;
                if relu { sum.max(0.0) } else { sum }
            })
            .collect()
    }
}

/// Sums `term(index, channel)` over the pixels of each channel of each image.
fn per_channel(
    len: usize,
    plane: usize,
    channels: usize,
    term: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    (0..len / plane)
        .map(|p| {
            (p * plane..(p + 1) * plane)
                .map(|i| term(i, p % channels))
                .sum()
        })
        .collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn compare(geometry: &Geometry, algorithm: Algorithm) {
    let tolerance = tolerance(geometry, algorithm.uses_winograd(geometry).unwrap());
    let at = |what: &str| {
        format!(
            "{what}, {geometry:?}, {algorithm:?}, {:?}",
            Level::current()
        )
    };
    let (batch, ci, co) = (
        geometry.batch(),
        geometry.in_channels(),
        geometry.out_channels(),
    );
    let plane = geometry.height() * geometry.width();
    let out_plane = geometry.out_height() * geometry.out_width();
    let weight = noise(geometry.weight_len(), 1);
    let (from, dy) = (
        Operands::new(batch, ci, plane, 20),
        Operands::new(batch, co, out_plane, 30),
    );

    let (bias, residual) = (noise(co, 2), noise(geometry.output_len(), 3));
    let center = noise(co, 4);
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: Some(&residual),
        sums: Sums::Moments { center: &center },
        ..Epilogue::default()
    };
    let mut output = vec![f32::NAN; geometry.output_len()];
    let sums = slices::forward(
        geometry,
        algorithm,
        from.input(true),
        &weight,
        epilogue,
        &mut output,
    )
    .unwrap();
    let bias = wide(&bias);
    let mut expected =
        reference::forward(geometry, &from.changed(true), &wide(&weight), Some(&bias));
    for (sum, residual) in expected.iter_mut().zip(&residual) {
        *sum += f64::from(*residual);
    }
    assert!(error(&output, &expected) < tolerance, "{}", at("forward"));
    let centered = |i: usize, c: usize| expected[i] - f64::from(center[c]);
    let first = per_channel(expected.len(), out_plane, co, centered);
    let second = per_channel(expected.len(), out_plane, co, |i, c| centered(i, c).powi(2));
    assert!(
        error(&narrow(&sums.first), &first) < 10.0 * tolerance,
        "{}",
        at("sum")
    );
    assert!(
        error(&narrow(&sums.second), &second) < 10.0 * tolerance,
        "{}",
        at("squares")
    );

    // The gradient by the input: another gradient is added, then the ReLU behind `from`'s affine undone.
    let other = noise(geometry.input_len(), 5);
    let center = noise(ci, 6);
    let gate = Gate {
        values: &from.values,
        affine: from.affine(),
        relu: true,
    };
    let epilogue = Epilogue {
        residual: Some(&other),
        gate: Some(gate),
        sums: Sums::Products { center: &center },
        ..Epilogue::default()
    };
    let mut by_input = vec![f32::NAN; geometry.input_len()];
    let sums = slices::backward_data(
        geometry,
        algorithm,
        dy.input(false),
        &weight,
        epilogue,
        &mut by_input,
    )
    .unwrap();
    let mut expected = reference::backward_data(geometry, &dy.changed(false), &wide(&weight));
    for (i, value) in expected.iter_mut().enumerate() {
        let open = from.affine_of(i);
        *value += f64::from(other[i]);
        if open.abs() < 1e-6 {
            // Rounding decides.
            *value = f64::from(by_input[i]);
        } else if open < 0.0 {
            *value = 0.0;
        }
    }
    assert!(
        error(&by_input, &expected) < tolerance,
        "{}",
        at("gradient by data")
    );
    let first = per_channel(expected.len(), plane, ci, |i, _| expected[i]);
    let second = per_channel(expected.len(), plane, ci, |i, c| {
        expected[i] * (f64::from(from.values[i]) - f64::from(center[c]))
    });
    assert!(
        error(&narrow(&sums.first), &first) < 20.0 * tolerance,
        "{}",
        at("sum of gradients")
    );
    assert!(
        error(&narrow(&sums.second), &second) < 20.0 * tolerance,
        "{}",
        at("products")
    );

    let mut by_weight = vec![f32::NAN; geometry.weight_len()];
    let (input, gradient) = (from.input(true), dy.input(false));
    slices::backward_weight(geometry, algorithm, input, gradient, &mut by_weight).unwrap();
    let expected = reference::backward_weight(geometry, &from.changed(true), &dy.changed(false));
    assert!(
        error(&by_weight, &expected) < tolerance,
        "{}",
        at("gradient by weight")
    );
}

#[test]
fn everything_at_once_agrees_with_its_steps() {
    on_every_level(|| {
        for (input, out_channels) in [
            ([2, 33, 9, 21], 18),
            ([1, 2, 5, 40], 32),
            ([3, 16, 1, 3], 3),
        ] {
            compare(&geometry(input, out_channels, 3, 1), Algorithm::Winograd);
            for (kernel, stride) in [(3, 1), (1, 1), (3, 2)] {
                compare(
                    &geometry(input, out_channels, kernel, stride),
                    Algorithm::Direct,
                );
            }
        }
    });
}
