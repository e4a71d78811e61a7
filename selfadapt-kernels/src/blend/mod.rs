//! Weighted sums of maps, `own x out + sum_k scale_k[c] x_k + shift[b, c]`, alone or carried back through pooling or
//! upsampling, in one pass over memory.
//!
//! That is what the gradients of a network of batch norms and residual adds are made of: the gradient by a batch
//! norm's input is `p dz + q x + t` with numbers of the channel, and gradients of the same map add up.

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{Blend, blend, blend_through_max_pool, blend_through_nearest_2x};
