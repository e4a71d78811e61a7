//! Models that plug into SelfAdapt, and the files that their weights come in.
pub mod format;
pub mod weights;
