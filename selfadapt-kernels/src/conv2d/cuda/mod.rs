//! Convolution with stride 1 and its gradients on a GPU, in f32: what [`super::slices`] does, on arrays of a machine.

mod filters;
mod operand;
mod weight;

pub use filters::Filters;
pub use operand::{Affine, ChannelSums, Epilogue, Gate, Input, Sums, Term};
pub use weight::{backward_bias, backward_weight};

use candle_core::{Result, bail};

use super::Geometry;
use crate::cuda::Program;
use crate::device::Precision;

const NAME: &str = "conv2d";

/// Its kernels in f32, and what all precisions share.
pub const PROGRAM: Program = Program {
    name: "conv2d.cu",
    source: concat!(include_str!("../tiles.cuh"), include_str!("../conv2d.cu")),
    kernels: &[
        "conv2d_pack",
        "conv2d_1x1_narrow",
        "conv2d_1x1_wide",
        "conv2d_3x3_narrow",
        "conv2d_3x3_wide",
        "conv2d_sums",
        "conv2d_1x1_weight_narrow",
        "conv2d_1x1_weight_wide",
        "conv2d_3x3_weight_narrow",
        "conv2d_3x3_weight_wide",
        "conv2d_merge_weight",
        "conv2d_bias_gradient",
    ],
};

/// The same tiles on tensor cores; compiled only where another precision than f32 is asked for, for older GPUs lack them.
pub const TENSOR: Program = Program {
    name: "tensor.cu",
    source: concat!(include_str!("../tiles.cuh"), include_str!("../tensor.cu")),
    kernels: &[
        "conv2d_1x1_narrow_tf32",
        "conv2d_1x1_wide_tf32",
        "conv2d_3x3_narrow_tf32",
        "conv2d_3x3_wide_tf32",
        "conv2d_1x1_weight_narrow_tf32",
        "conv2d_1x1_weight_wide_tf32",
        "conv2d_3x3_weight_narrow_tf32",
        "conv2d_3x3_weight_wide_tf32",
        "conv2d_1x1_narrow_bf16",
        "conv2d_1x1_wide_bf16",
        "conv2d_3x3_narrow_bf16",
        "conv2d_3x3_wide_bf16",
        "conv2d_1x1_weight_narrow_bf16",
        "conv2d_1x1_weight_wide_bf16",
        "conv2d_3x3_weight_narrow_bf16",
        "conv2d_3x3_weight_wide_bf16",
    ],
};

/// The kernel of a convolution, or of a gradient by weight, and the program that it is in.
fn kernel(
    precision: Precision,
    weight: bool,
    three: bool,
    channels: usize,
) -> (&'static Program, &'static str) {
    let at = 2 * usize::from(three) + usize::from(!is_narrow(channels));
    match precision {
        Precision::F32 => (&PROGRAM, PROGRAM.kernels[if weight { 6 } else { 1 } + at]),
        Precision::Tf32 => (&TENSOR, TENSOR.kernels[4 * usize::from(weight) + at]),
        Precision::Bf16 => (&TENSOR, TENSOR.kernels[8 + 4 * usize::from(weight) + at]),
    }
}

/// Whether tiles of 32 output channels waste less than tiles of 64.
fn is_narrow(channels: usize) -> bool {
    (1..=32).contains(&(channels % 64))
}

/// Output channels and pixels of a tile.
fn tile(channels: usize) -> (usize, usize) {
    match is_narrow(channels) {
        true => (32, 256),
        false => (64, 128),
    }
}

/// Whether the kernel's side is 3 rather than 1.
fn is_three(geometry: &Geometry) -> Result<bool> {
    match (geometry.kernel(), geometry.stride()) {
        (1, 1) => Ok(false),
        (3, 1) => Ok(true),
        (side, stride) => bail!(
            "{NAME}: expected a 1x1 or 3x3 kernel and stride 1 on a GPU, got {side}x{side} and stride {stride}"
        ),
    }
}
