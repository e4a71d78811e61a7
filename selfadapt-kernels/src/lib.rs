//! Numerical kernels of SelfAdapt.

pub mod adamw;
pub mod batch_norm;
pub mod blend;
pub mod buffers;
pub mod clahe;
pub mod conv2d;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod device;
pub mod ema;
pub mod fill_holes;
pub mod flow_error;
pub mod follow_flows;
pub mod gaussian;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod gradcheck;
pub mod h_maxima;
mod in_place;
pub mod label_flows;
mod lines;
pub mod masked_loss;
pub mod masks;
pub mod math;
pub mod max_pool;
pub mod object_depths;
pub mod objects;
pub mod overlap;
pub mod quantile;
mod scratch;
pub mod simd;
mod simd_transpose;
pub mod simd_vector;
pub mod sinks;
pub mod small_holes;
pub mod star_distances;
pub mod star_loss;
pub mod star_nms;
pub mod star_polygons;
pub mod storage;
mod sums;
pub mod upsample;
pub mod views;
pub mod watershed;
