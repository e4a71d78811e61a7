//! Two-dimensional convolution on the CPU with fast gradients by input, weight and bias.
//!
//! `y[b, o, i, j] = bias[o] + sum over c, u, v of weight[o, c, u, v] * x[b, c, s i + u - p, s j + v - p]` with
//! stride `s`, an odd kernel of side `k`, padding `p = k / 2` and zeros beyond the image (a cross-correlation,
//! as in PyTorch). [`conv2d`] is the operation on candle tensors; [`slices`] has the same without candle.
//!
//! Both algorithms move a few rows at a time into channel-last working memory, multiply matrices whose
//! columns are output channels, and move the result back to planes; see [`Algorithm`].

pub(crate) mod bf16;
#[cfg(feature = "cuda")]
pub mod cuda;
mod direct;
mod direct_weight;
mod epilogue;
mod geometry;
mod op;
mod operand;
mod output;
mod packed;
mod plan;
mod product;
mod reference;
mod rows;
pub mod slices;
mod store;
#[cfg(test)]
mod tests;
mod winograd;

pub use epilogue::{ChannelSums, Epilogue, Gate, Sums};
pub use geometry::Geometry;
pub use operand::{Affine, Input, Term};
pub use packed::PackedFilters;

use candle_core::{DType, Result, Tensor};

use crate::device::{Device, Precision};
use op::Convolution;

/// How to compute a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Winograd for 3 x 3 kernels at stride 1 with enough channels, else direct.
    #[default]
    Auto,
    /// The sums as they are written, each in one pass: the choice for comparing with other programs.
    Direct,
    /// F(4 x 4, 3 x 3): a quarter of the multiplications, rounding errors about four times as large. Only
    /// for 3 x 3 kernels at stride 1.
    Winograd,
    /// The sums as they are written, of factors rounded to bf16, on a processor's matrix tiles
    /// ([`half_tiles`]): the convolution and its gradient by the input where these have a multiple of 32
    /// channels and stride 1. Everything else as under `Auto`.
    Bf16,
}

impl Algorithm {
    /// What suits a network that computes on `device`.
    pub fn on(device: &Device) -> Self {
        match device.is_cpu() && device.precision() == Precision::Bf16 {
            true => Self::Bf16,
            false => Self::Auto,
        }
    }
}

/// Whether this processor has matrix tiles of bf16 (Intel AMX) that this process may use: without them
/// [`Algorithm::Bf16`] is slow.
pub fn half_tiles() -> bool {
    bf16::available()
}

/// Convolves `x` `[B, Ci, H, W]` with `weight` `[Co, Ci, k, k]` (odd `k`) under "same" padding `k / 2`.
///
/// Returns `[B, Co, ceil(H / stride), ceil(W / stride)]` plus `bias` `[Co]`, differentiable once by all
/// three. `f32` on the CPU is fast; `f64` follows the definition (for gradient checks); `f16` and `bf16`
/// are computed in `f32`; other devices use candle's own convolution.
///
/// # Errors
/// When shapes, types or devices do not belong together, or the algorithm is not defined for them.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    algorithm: Algorithm,
) -> Result<Tensor> {
    let (Ok((b, ci, h, w)), Ok((co, ci_weight, kh, kw))) = (x.dims4(), weight.dims4()) else {
        candle_core::bail!(
            "conv2d: expected x [B, Ci, H, W] and weight [Co, Ci, k, k], got {:?} and {:?}",
            x.dims(),
            weight.dims()
        )
    };
    let geometry = Geometry::new([b, ci, h, w], [co, ci_weight, kh, kw], stride)?;
    algorithm.uses_winograd(&geometry)?;
    for (name, tensor) in [("weight", Some(weight)), ("bias", bias)] {
        let Some(tensor) = tensor else { continue };
        if tensor.dtype() != x.dtype() || !tensor.device().same_device(x.device()) {
            candle_core::bail!(
                "conv2d: expected {name} to be {:?} on {:?} like x, got {:?} on {:?}",
                x.dtype(),
                x.device().location(),
                tensor.dtype(),
                tensor.device().location()
            )
        }
    }
    if let Some(bias) = bias
        && bias.dims() != [co]
    {
        candle_core::bail!("conv2d: expected bias [{co}], got {:?}", bias.dims())
    }
    if !x.device().is_cpu() {
        let y = x.conv2d(weight, geometry.padding(), stride, 1, 1)?;
        return match bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, co, 1, 1))?),
            None => Ok(y),
        };
    }
    match x.dtype() {
        DType::F32 | DType::F64 => {}
        DType::F16 | DType::BF16 => {
            let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
            let bias = bias.map(wide).transpose()?;
            let y = conv2d(&wide(x)?, &wide(weight)?, bias.as_ref(), stride, algorithm)?;
            return y.to_dtype(x.dtype());
        }
        other => candle_core::bail!("conv2d: expected f32, f64, f16 or bf16 values, got {other:?}"),
    }
    let operation = Convolution {
        geometry,
        algorithm,
    };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, operation),
        None => x.apply_op2(&weight, operation),
    }
}
