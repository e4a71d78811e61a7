//! Images and results on disk, one file a format.
pub mod atomic;
