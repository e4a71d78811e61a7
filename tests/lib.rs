//! Empty: this crate exists for its test binary.
