//! The machines that numbers are checked on: the emulator, and a GPU where there is one.

use std::sync::Arc;

use selfadapt_kernels::cuda::{Machine, open};
use selfadapt_kernels::device::{NoGpu, available};

use crate::emulator::emulator;

/// Runs a test on the emulator, and on the first GPU if there is one.
pub fn each_machine(test: impl Fn(Arc<dyn Machine>)) {
    if let Some(machine) = emulator() {
        test(machine);
    }
    if let Ok(gpus) = available() {
        println!("also on {}", gpus[0]);
        test(open(0).unwrap());
    }
}

#[test]
fn gpus_are_listed_or_the_reason_is_said() {
    match available() {
        Ok(gpus) => {
            gpus.iter().for_each(|gpu| println!("{gpu}"));
            let error = open(gpus.len()).unwrap_err().to_string();
            assert!(error.contains("expected a GPU below"), "{error}");
        }
        Err(reason) => {
            println!("nothing ran on a GPU: {reason}");
            assert_ne!(reason, NoGpu::NotBuilt);
            let error = open(0).unwrap_err().to_string();
            assert_eq!(error, format!("cuda:0: {reason}"));
        }
    }
}
