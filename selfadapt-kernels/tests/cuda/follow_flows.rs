//! Flow following: the numbers of its CUDA kernels against the CPU's.

use selfadapt_kernels::follow_flows::cuda::follow_flows;
use selfadapt_kernels::follow_flows::{Field, follow_flows as on_cpu};

use crate::emulator::numbers;
use crate::machines::each_machine;

#[test]
fn ends_are_the_cpus_to_the_bit() {
    each_machine(|machine| {
        let (height, width) = (23, 31);
        let flows = numbers(1, 2 * height * width);
        let field = Field::new(&flows, height, width).unwrap();
        let starts: Vec<u32> = (0..(height * width) as u32).collect();
        for interpolate in [true, false] {
            for steps in [0, 1, 5, 200] {
                let ours = follow_flows(&machine, &field, &starts, steps, interpolate).unwrap();
                assert_eq!(ours, on_cpu(&field, &starts, steps, interpolate).unwrap());
            }
        }
        assert!(follow_flows(&machine, &field, &[713], 1, true).is_err());
        assert!(
            follow_flows(&machine, &field, &[], 1, true)
                .unwrap()
                .is_empty()
        );
    });
}
