//! Where the reference data lies, and what a test does without it.

use std::path::PathBuf;

/// The folder of reference data: `SELFADAPT_ASSETS`, else `../shared/assets` beside the workspace.
///
/// Without it a test says so in a line and is skipped; with `SELFADAPT_REQUIRE_ASSETS=1` it fails.
pub fn dir() -> Option<PathBuf> {
    let dir = std::env::var_os("SELFADAPT_ASSETS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/assets"),
        PathBuf::from,
    );
    if dir.is_dir() {
        return Some(dir);
    }
    assert!(
        std::env::var("SELFADAPT_REQUIRE_ASSETS").as_deref() != Ok("1"),
        "SELFADAPT_REQUIRE_ASSETS=1, but there is no folder {}",
        dir.display()
    );
    println!("skipped: no reference data at {}", dir.display());
    None
}
