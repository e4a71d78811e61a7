//! Models that plug into SelfAdapt, and the files that their weights come in.
#![forbid(unsafe_code)]
pub mod cellpose;
pub mod device;
pub mod digest;
pub mod format;
mod fused;
pub mod layers;
pub mod mesmer;
pub mod run_folder;
pub mod stardist;
pub mod weights;
