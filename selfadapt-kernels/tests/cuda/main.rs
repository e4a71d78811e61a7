//! CUDA's kernels where there is no GPU: they compile under NVRTC, and their numbers are the CPU's.
//!
//! `cargo test --workspace --test cuda` (all of the workspace, so that dependencies are the ones of every other build).
#![allow(clippy::unwrap_used, clippy::panic)]

mod adamw;
mod batch_norm;
mod blend;
mod conv2d;
mod ema;
mod emulator;
mod follow_flows;
mod machines;
mod masked_loss;
mod max_pool;
mod programs;
mod quantile;
mod upsample;
mod views;
