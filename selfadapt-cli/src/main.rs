//! The selfadapt command.
#![forbid(unsafe_code)]
fn main() {}
