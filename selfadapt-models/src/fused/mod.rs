//! Blocks of batch norm, ReLU and convolution without a graph: affine and ReLU are applied while the convolution
//! packs its input, a residual is added while it stores, moments are summed on the way, and gradients likewise.
//!
//! A network that is built of such blocks runs inference on them, and writes its own backward pass; see
//! [`crate::cellpose`]. Weights and images are `f32` tensors on the CPU; maps lie on whatever device the network has
//! ([`Placed`]), or on the CPU (a plain [`Map`]).

mod block;
mod convolve;
mod filters;
#[cfg(feature = "cuda")]
mod gpu;
mod linear;
mod map;
mod norm;
mod placed;
mod rectified;

pub(crate) use block::Fused;
pub(crate) use convolve::Read;
pub(crate) use filters::FilterCache;
#[cfg(feature = "cuda")]
pub(crate) use gpu::FiltersOnGpu;
pub(crate) use linear::{linear, linear_backward};
pub(crate) use map::{Gradient, Map};
pub(crate) use norm::{Folded, Pending};
pub(crate) use placed::{
    Placed, PlacedTerm, Sum, blend, blend_through_max_pool, through_nearest_2x,
};
pub(crate) use rectified::Rectified;

use candle_core::{Result, Storage, Tensor, bail};

/// Runs `f` on the numbers of a contiguous `f32` tensor of the CPU.
///
/// # Errors
/// If the tensor is another kind, or as `f`.
pub(crate) fn with_numbers<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(numbers), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        bail!(
            "fused layers: expected a contiguous tensor on the CPU, got strides {:?} on {:?}",
            tensor.stride(),
            tensor.device().location()
        )
    };
    f(&numbers.as_slice::<f32>()?[start..end])
}
