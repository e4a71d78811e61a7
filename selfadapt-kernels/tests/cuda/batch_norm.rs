//! Batch norm: the numbers of its CUDA kernels against the CPU's.

use selfadapt_kernels::batch_norm::cuda::{Affine, Moments, moments};
use selfadapt_kernels::batch_norm::{Affine as OnCpu, moments as moments_on_cpu};
use selfadapt_kernels::cuda::Array;

use crate::emulator::{largest_difference, numbers};
use crate::machines::each_machine;

#[test]
fn forward_and_gradients_are_the_cpus() {
    each_machine(|machine| {
        let of = |values: &[f32]| Array::of(&machine, values).unwrap();
        let (batch, channels, pixels) = (2, 5, 1_003);
        let len = batch * channels * pixels;
        let x: Vec<f32> = numbers(1, len).iter().map(|v| v * 3.0 + 7.0).collect();
        let dy = numbers(2, len);
        let (gamma, beta) = (numbers(3, channels), numbers(4, channels));
        let cpu_moments = moments_on_cpu(&x, channels, pixels);
        let (x_there, dy_there) = (of(&x), of(&dy));
        for relu in [false, true] {
            let there = moments(&x_there, channels, pixels).unwrap();
            for (ours, theirs) in [
                (&there.mean, &cpu_moments.mean),
                (&there.variance, &cpu_moments.variance),
            ] {
                for (ours, theirs) in ours.read().unwrap().iter().zip(theirs) {
                    assert!((ours - theirs).abs() < 1e-6 * theirs, "{ours} {theirs}");
                }
            }
            // The same moments for both, so that no number near 0 is cut off on one side only.
            let there = Moments {
                mean: Array::of(&machine, &cpu_moments.mean).unwrap(),
                variance: Array::of(&machine, &cpu_moments.variance).unwrap(),
            };
            let ours = Affine::new(there, &of(&gamma), &of(&beta), 1e-5, pixels, relu).unwrap();
            let theirs = OnCpu::new(&cpu_moments, &gamma, &beta, 1e-5, pixels, relu);
            let mut cpu = vec![0.0; len];
            theirs.forward(&x, &mut cpu);
            assert_eq!(ours.forward(&x_there).unwrap().read().unwrap(), cpu);

            let by_parameters = ours.parameter_gradients(&x_there, &dy_there).unwrap();
            let cpu_parameters = theirs.parameter_gradients(&x, &dy);
            for (ours, theirs) in [
                (&by_parameters.gamma, &cpu_parameters.gamma),
                (&by_parameters.beta, &cpu_parameters.beta),
            ] {
                for (ours, theirs) in ours.read().unwrap().iter().zip(theirs) {
                    assert!(
                        (ours - theirs).abs() < 1e-4 + 1e-6 * theirs.abs(),
                        "{ours} {theirs}"
                    );
                }
            }
            for own in [false, true] {
                let through = own.then_some(&by_parameters);
                let dx = ours.input_gradient(&x_there, &dy_there, through).unwrap();
                let through = own.then_some(&cpu_parameters);
                theirs.input_gradient(&x, &dy, through, &mut cpu);
                assert!(largest_difference(&dx.read().unwrap(), &cpu) < 1e-6);
            }
        }
        assert!(moments(&x_there, 3, 7).is_err());
    });
}
