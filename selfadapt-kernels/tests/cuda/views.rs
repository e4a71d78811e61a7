//! Views: the numbers of its CUDA kernels against the CPU's.

use candle_core::{Device, Tensor};
use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::views::cuda::{ViewsMerge, turn};
use selfadapt_kernels::views::{Activation, View, ViewsMerge as OnCpu, turn as turn_on_cpu};

use crate::emulator::{largest_difference, numbers};
use crate::machines::each_machine;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn views_are_the_cpus_to_the_bit() {
    each_machine(|machine| {
        let x = numbers(1, 2 * 3 * 5 * 7);
        let tensor = Tensor::from_slice(&x, (2, 3, 5, 7), &Device::Cpu).unwrap();
        let x = Array::of(&machine, &x).unwrap();
        for view in View::ALL {
            let there = turn(&x, (5, 7), view).unwrap().read().unwrap();
            assert_eq!(
                there,
                values(&turn_on_cpu(&tensor, view).unwrap()),
                "{view:?}"
            );
        }
        assert!(turn(&x, (4, 4), View::ALL[0]).is_err());
    });
}

#[test]
fn merged_views_are_the_cpus() {
    each_machine(|machine| {
        let (h, w, sources) = (6, 9, 3);
        for activation in [
            Activation::Identity,
            Activation::Sigmoid,
            Activation::Softmax,
        ] {
            let channels = [(1, -1.0), (0, 1.0)];
            let mut ours = ViewsMerge::new(&machine, activation, [2, 2, h, w]).unwrap();
            let mut theirs = OnCpu::new(activation);
            for (seed, view) in View::ALL.into_iter().enumerate() {
                let output = numbers(seed as u64 + 1, 2 * sources * h * w);
                let (vh, vw) = if view.swaps_axes() { (w, h) } else { (h, w) };
                let tensor =
                    Tensor::from_slice(&output, (2, sources, vh, vw), &Device::Cpu).unwrap();
                theirs.push(&tensor, view, &channels).unwrap();
                let output = Array::of(&machine, &output).unwrap();
                ours.push(&output, sources, view, &channels).unwrap();
                assert!(
                    ours.push(&output, sources, view, &[(3, 1.0), (0, 1.0)])
                        .is_err()
                );
            }
            let (mean, spread) = ours.finish().unwrap();
            let (cpu_mean, cpu_spread) = theirs.finish().unwrap();
            for (there, here) in [(mean, cpu_mean), (spread, cpu_spread)] {
                let off = largest_difference(&there.read().unwrap(), &values(&here));
                let most = if activation == Activation::Identity {
                    0.0
                } else {
                    3e-7
                };
                assert!(off <= most, "{activation:?}: {off}");
            }
        }
        let empty = ViewsMerge::new(&machine, Activation::Identity, [1, 1, 1, 1]).unwrap();
        assert!(empty.finish().is_err());
    });
}
