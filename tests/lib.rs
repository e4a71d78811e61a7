//! Empty: this crate exists for its test binary.
#![forbid(unsafe_code)]
