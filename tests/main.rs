//! Tests that cross crates.

mod assets;
#[allow(dead_code)] // each topic uses the types of number that its files hold
mod npz;
