//! The machines that numbers are checked on: the emulator, and a GPU where there is one.

use std::sync::Arc;

use selfadapt_kernels::cuda::{Array, Machine, open};
use selfadapt_kernels::device::{NoGpu, Precision, available, out_of_memory};

use crate::emulator::{emulator, emulator_of};

/// Runs a test on the emulator, and on the first GPU if there is one.
pub fn each_machine(test: impl Fn(Arc<dyn Machine>)) {
    if let Some(machine) = emulator() {
        test(machine);
    }
    if let Ok(gpus) = available() {
        println!("also on {}", gpus[0]);
        test(open(0, Precision::F32).unwrap());
    }
}

#[test]
fn gpus_are_listed_or_the_reason_is_said() {
    match available() {
        Ok(gpus) => {
            gpus.iter().for_each(|gpu| println!("{gpu}"));
            let error = open(gpus.len(), Precision::F32).unwrap_err().to_string();
            assert!(error.contains("expected a GPU below"), "{error}");
        }
        Err(reason) => {
            println!("nothing ran on a GPU: {reason}");
            assert_ne!(reason, NoGpu::NotBuilt);
            let error = open(0, Precision::F32).unwrap_err().to_string();
            assert_eq!(error, format!("cuda:0: {reason}"));
        }
    }
}

#[test]
fn memory_that_is_not_there_is_an_error_of_its_own_and_memory_given_back_is_free() {
    let Some(machine) = emulator_of(1 << 20) else {
        return;
    };
    for _ in 0..3 {
        let held = Array::<f32>::zeros(&machine, 200_000).unwrap();
        let error = Array::<f32>::zeros(&machine, 200_000).unwrap_err();
        let full = out_of_memory(&error).unwrap();
        assert_eq!((full.asked, full.memory), (800_000, 1 << 20));
        drop(held);
    }
}
