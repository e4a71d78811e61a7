//! Ctrl-C: ends a run after the step that is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use selfadapt_core::error::{Error, Result};

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether the user asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Listens for Ctrl-C. The first one asks for a clean stop, the second ends the process.
///
/// # Errors
/// If the system refuses a handler.
pub fn watch() -> Result<Stop> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        eprintln!("stopping after this step, with the best snapshot so far; press Ctrl-C again to leave at once");
    })
    .map_err(|e| Error::Setting(format!("cannot listen for Ctrl-C: {e}")))?;
    Ok(Stop(flag))
}
