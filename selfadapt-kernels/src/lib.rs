//! Numerical kernels of SelfAdapt.

pub mod batch_norm;
pub mod conv2d;
pub mod fill_holes;
pub mod flow_error;
pub mod follow_flows;
#[cfg(test)]
mod gradcheck;
pub mod label_flows;
pub mod masks;
pub mod max_pool;
pub mod objects;
pub mod overlap;
mod scratch;
pub mod simd;
mod simd_transpose;
pub mod simd_vector;
pub mod sinks;
pub mod storage;
pub mod upsample;
