//! Numerical kernels of SelfAdapt.

pub mod batch_norm;
pub mod conv2d;
#[cfg(test)]
mod gradcheck;
pub mod max_pool;
mod scratch;
pub mod simd;
mod simd_transpose;
pub mod simd_vector;
pub mod storage;
pub mod upsample;
