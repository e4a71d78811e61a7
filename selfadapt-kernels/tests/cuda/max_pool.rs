//! Max pooling: the numbers of its CUDA kernels against the CPU's.

use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::max_pool::cuda::{backward, forward};
use selfadapt_kernels::max_pool::{Window, backward as backward_on_cpu, forward as forward_on_cpu};

use crate::emulator::numbers;
use crate::machines::each_machine;

#[test]
fn pooling_and_its_gradient_are_the_cpus_to_the_bit() {
    each_machine(|machine| {
        for (kernel, stride, height, width) in [
            (2, 2, 6, 9),
            (3, 2, 8, 11),
            (3, 1, 3, 4),
            (2, 3, 7, 7),
            (1, 1, 1, 2),
        ] {
            let window = Window {
                height,
                width,
                kernel,
                stride,
            };
            // Few different values, so that there are ties; and a NaN.
            let mut x: Vec<f32> = numbers(1, 3 * window.inputs())
                .iter()
                .map(|v| (v * 3.0).round())
                .collect();
            x[1] = f32::NAN;
            let dy = numbers(2, 3 * window.outputs());
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            forward_on_cpu(&x, window, &mut y);
            backward_on_cpu(&x, &dy, window, &mut dx);
            let (x, dy) = (
                Array::of(&machine, &x).unwrap(),
                Array::of(&machine, &dy).unwrap(),
            );
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            let ours = forward(&x, window).unwrap().read().unwrap();
            assert_eq!(bits(&ours), bits(&y), "{window:?}");
            let ours = backward(&x, &dy, window).unwrap().read().unwrap();
            assert_eq!(ours, dx, "{window:?}");
            assert!(
                backward(
                    &x,
                    &x,
                    Window {
                        kernel: 0,
                        ..window
                    }
                )
                .is_err()
            );
        }
    });
}
