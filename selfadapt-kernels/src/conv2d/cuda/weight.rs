//! Gradients by weight and by bias on a GPU.

use candle_core::Result;

use super::operand::Input;
use super::{NAME, PROGRAM, is_three, kernel, tile};
use crate::conv2d::Geometry;
use crate::cuda::{Array, Launch, blocks_for, count};
use crate::device::Precision;

/// Columns of a tile, of taps and input channels, and pixels that a block sums at a time: as tiles.cuh has them.
const WIDE: usize = 128;
const RUN: usize = 16;

/// Blocks that a gradient is cut into, if there are pixels enough: some for each SM of every GPU of today. Fixed, so that
/// sums do not depend on the GPU.
const BLOCKS: usize = 512;

/// The fewest pixels of a slice.
const FEWEST: usize = 64;

/// The gradient by the weight, `[Co, Ci, k, k]`, given the input and the gradient by the output.
///
/// # Errors
/// If an array has not the length that `geometry` calls for, `k` is neither 1 nor 3, or the device fails.
pub fn backward_weight(
    geometry: &Geometry,
    input: Input,
    gradient: Input,
    precision: Precision,
) -> Result<Array<f32>> {
    let three = is_three(geometry)?;
    let (from, to) = (geometry.input_planes(), geometry.output_planes());
    input.check(from, "the input")?;
    gradient.check(to, "the gradient")?;
    count(NAME, from.len())?;
    count(NAME, to.len())?;
    let machine = input.values.machine();
    if from.len() == 0 || to.len() == 0 {
        return Array::zeros(machine, geometry.weight_len());
    }
    let (program, kernel) = kernel(precision, true, three, to.channels);
    let rows = tile(to.channels).0;
    let taps = geometry.kernel() * geometry.kernel();
    let tiles = to.channels.div_ceil(rows) * (taps * from.channels).div_ceil(WIDE);
    let pixels = to.batch * to.plane();
    let length = pixels.div_ceil(BLOCKS.div_ceil(tiles)).max(FEWEST);
    let length = length.next_multiple_of(RUN);
    let slices = pixels.div_ceil(length);
    let n = count(NAME, geometry.weight_len())?;
    count(NAME, slices * geometry.weight_len())?;
    let mut parts = Array::<f32>::room(machine, slices * geometry.weight_len())?;
    let launch = Launch::new(machine, program, kernel);
    let launch = gradient.pass(to, input.pass(from, launch));
    let launch = launch
        .u32(to.batch as u32)
        .u32(from.channels as u32)
        .u32(to.channels as u32)
        .u32(to.height as u32)
        .u32(to.width as u32)
        .u32(length as u32)
        .out(&mut parts);
    // SAFETY: the arguments are the kernel's; lengths were checked above against `from` and `to`; each block stores its
    // own tile of its own slice.
    unsafe { launch.run(count(NAME, tiles * slices)?) }?;
    let mut by_weight = Array::room(machine, geometry.weight_len())?;
    let launch = Launch::new(machine, &PROGRAM, "conv2d_merge_weight")
        .array(&parts)
        .u32(n)
        .u32(slices as u32)
        .u32(from.channels as u32)
        .u32(taps as u32)
        .out(&mut by_weight);
    // SAFETY: the arguments are the kernel's; `parts` has `slices` times the n numbers of the weight.
    unsafe { launch.run(blocks_for(n)) }?;
    Ok(by_weight)
}

/// The gradient by the bias, `[Co]`: the sum of `gradient` `[B, Co, H, W]` over images and pixels.
///
/// # Errors
/// If the gradient has not the length that `geometry` calls for, or the device fails.
pub fn backward_bias(geometry: &Geometry, gradient: &Array<f32>) -> Result<Array<f32>> {
    let planes = geometry.output_planes();
    Input::plain(gradient).check(planes, "the gradient")?;
    count(NAME, planes.len())?;
    let mut by_bias = Array::room(gradient.machine(), planes.channels)?;
    let launch = Launch::new(gradient.machine(), &PROGRAM, "conv2d_bias_gradient")
        .array(gradient)
        .u32(planes.batch as u32)
        .u32(planes.channels as u32)
        .u32(planes.plane() as u32)
        .out(&mut by_bias);
    // SAFETY: the arguments are the kernel's; the gradient has batch x channels planes, the result a number a channel.
    unsafe { launch.run(count(NAME, planes.channels)?) }?;
    Ok(by_bias)
}
