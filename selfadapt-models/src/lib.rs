//! Models that plug into SelfAdapt, and the files that their weights come in.
#![forbid(unsafe_code)]
pub mod format;
pub mod weights;
