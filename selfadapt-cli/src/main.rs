//! The selfadapt command.
fn main() {}
