//! Tests that cross crates.

#[allow(dead_code)] // until the first test uses it
mod assets;
