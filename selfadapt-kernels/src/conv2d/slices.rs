//! Convolution and its three gradients on slices, for callers that keep tensors of their own.

use super::direct_weight;
use super::epilogue::{ChannelSums, Epilogue};
use super::geometry::Geometry;
use super::operand::{Input, expect_len};
use super::output::{SharedOutput, as_uninit};
use super::packed::PackedFilters;
use super::{Algorithm, winograd};
use crate::simd_vector::Level;
use candle_core::Result;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Channels of both sides from which on Winograd is the faster of the two.
const WINOGRAD_CHANNELS: usize = 16;

impl Algorithm {
    /// Whether to use Winograd's algorithm for these sizes.
    ///
    /// # Errors
    /// When it is asked for but is not defined for them.
    pub fn uses_winograd(self, geometry: &Geometry) -> Result<bool> {
        let (kernel, stride) = (geometry.kernel(), geometry.stride());
        let defined = kernel == 3 && stride == 1;
        match self {
            Algorithm::Direct => Ok(false),
            Algorithm::Winograd if !defined => candle_core::bail!(
                "conv2d: expected a 3x3 kernel and stride 1 for Algorithm::Winograd, got {kernel}x{kernel} \
                 and stride {stride}; Algorithm::Auto chooses by itself"
            ),
            Algorithm::Winograd => Ok(true),
            Algorithm::Auto | Algorithm::Bf16 => {
                Ok(defined
                    && geometry.in_channels().min(geometry.out_channels()) >= WINOGRAD_CHANNELS)
            }
        }
    }
}

/// Writes `conv2d(input, weight)` plus the epilogue's terms to `output` `[B, Co, Ho, Wo]`, and returns the sums it asks for.
///
/// # Errors
/// When a slice has not the length that `geometry` calls for, or the algorithm is not defined for it.
pub fn forward(
    geometry: &Geometry,
    algorithm: Algorithm,
    input: Input,
    weight: &[f32],
    epilogue: Epilogue,
    output: &mut [f32],
) -> Result<ChannelSums> {
    forward_uninit(
        geometry,
        algorithm,
        input,
        weight,
        epilogue,
        as_uninit(output),
    )
}

/// [`forward`] into memory that need not be initialised; all of it is, when this returns `Ok`.
pub(crate) fn forward_uninit(
    geometry: &Geometry,
    algorithm: Algorithm,
    input: Input,
    weight: &[f32],
    epilogue: Epilogue,
    output: &mut [MaybeUninit<f32>],
) -> Result<ChannelSums> {
    let planes = geometry.output_planes();
    input.check(geometry.input_planes(), "the input")?;
    epilogue.check(planes)?;
    expect_len(output.len(), planes.len(), "the output", planes)?;
    let filters = PackedFilters::forward(geometry, algorithm, weight)?;
    Ok(filters.run(geometry, &input, &epilogue, SharedOutput::new(output)))
}

/// Writes the gradient by the input, `[B, Ci, H, W]`, from the gradient by the output `[B, Co, Ho, Wo]`.
///
/// The epilogue may add another gradient of the same tensor, undo a ReLU, and sum for a batch norm's backward.
///
/// # Errors
/// When a slice has not the length that `geometry` calls for, or the algorithm is not defined for it.
pub fn backward_data(
    geometry: &Geometry,
    algorithm: Algorithm,
    gradient: Input,
    weight: &[f32],
    epilogue: Epilogue,
    output: &mut [f32],
) -> Result<ChannelSums> {
    backward_data_uninit(
        geometry,
        algorithm,
        gradient,
        weight,
        epilogue,
        as_uninit(output),
    )
}

/// [`backward_data`] into memory that need not be initialised; all of it is, when this returns `Ok`.
pub(crate) fn backward_data_uninit(
    geometry: &Geometry,
    algorithm: Algorithm,
    gradient: Input,
    weight: &[f32],
    epilogue: Epilogue,
    output: &mut [MaybeUninit<f32>],
) -> Result<ChannelSums> {
    let planes = geometry.input_planes();
    gradient.check(geometry.output_planes(), "the gradient")?;
    epilogue.check(planes)?;
    expect_len(output.len(), planes.len(), "the input's gradient", planes)?;
    let filters = PackedFilters::backward_data(geometry, algorithm, weight)?;
    Ok(filters.run(geometry, &gradient, &epilogue, SharedOutput::new(output)))
}

/// Writes the gradient by the weight, `[Co, Ci, k, k]`.
///
/// # Errors
/// When a slice has not the length that `geometry` calls for, or the algorithm is not defined for it.
pub fn backward_weight(
    geometry: &Geometry,
    algorithm: Algorithm,
    input: Input,
    gradient: Input,
    output: &mut [f32],
) -> Result<()> {
    input.check(geometry.input_planes(), "the input")?;
    gradient.check(geometry.output_planes(), "the gradient")?;
    check_weight(geometry, output.len())?;
    let level = Level::current();
    if geometry.output_len() == 0 || geometry.input_len() == 0 {
        output.fill(0.0);
    } else if algorithm.uses_winograd(geometry)? {
        winograd::weight_gradient(geometry, &input, &gradient, output, level);
    } else {
        direct_weight::run(geometry, &input, &gradient, output, level);
    }
    Ok(())
}

/// Writes the gradient by the bias, `[Co]`: the sum of `gradient` `[B, Co, Ho, Wo]` over images and pixels.
///
/// # Errors
/// When a slice has not the length that `geometry` calls for.
pub fn backward_bias(geometry: &Geometry, gradient: &[f32], output: &mut [f32]) -> Result<()> {
    let planes = geometry.output_planes();
    Input::plain(gradient).check(planes, "the gradient")?;
    expect_len(
        output.len(),
        planes.channels,
        "the bias's gradient of",
        planes,
    )?;
    output
        .par_iter_mut()
        .enumerate()
        .for_each(|(channel, sum)| {
            let of_images = (0..planes.batch).map(|image| {
                let from = planes.row(image, channel, 0);
                sum_of(&gradient[from..from + planes.plane()])
            });
            *sum = of_images.sum::<f64>() as f32;
        });
    Ok(())
}

/// The sum of many values: short runs in `f32`, side by side, and the runs in `f64`.
fn sum_of(values: &[f32]) -> f64 {
    const SIDE_BY_SIDE: usize = 32;
    values
        .chunks(SIDE_BY_SIDE * 32)
        .map(|run| {
            let mut sums = [0.0_f32; SIDE_BY_SIDE];
            for chunk in run.chunks(SIDE_BY_SIDE) {
                for (sum, value) in sums.iter_mut().zip(chunk) {
                    *sum += value;
                }
            }
            sums.iter().map(|&sum| f64::from(sum)).sum::<f64>()
        })
        .sum()
}

pub(super) fn check_weight(geometry: &Geometry, len: usize) -> Result<()> {
    if len != geometry.weight_len() {
        candle_core::bail!(
            "conv2d: expected {} values of weight for {geometry:?}, got {len}",
            geometry.weight_len()
        )
    }
    Ok(())
}
