//! Numerical kernels of SelfAdapt.

pub mod batch_norm;
#[cfg(test)]
mod gradcheck;
pub mod max_pool;
pub mod simd;
pub mod storage;
pub mod upsample;
