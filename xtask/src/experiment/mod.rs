//! Experiments: the binary run on sets of images with settings and seeds, resumably, and its records read.

pub mod folders;
pub mod job;
pub mod numbers;
pub mod program;
pub mod record;
