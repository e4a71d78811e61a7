//! Quantiles: the numbers of its CUDA kernels against the CPU's.

use candle_core::{Device, Tensor};
use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::quantile::cuda::quantile_per_channel;
use selfadapt_kernels::quantile::quantile_per_channel as on_cpu;

use crate::emulator::{mask as some, numbers};
use crate::machines::each_machine;

#[test]
fn quantiles_are_the_cpus_to_the_bit() {
    each_machine(|machine| {
        let (batch, channels, h, w) = (2, 3, 17, 31);
        let shape = (batch, channels, h, w);
        // Spread over many digits, in one digit, and all equal.
        for (scale, offset) in [(1e6, 0.0), (1e-6, 1.0), (0.0, -0.0)] {
            let x: Vec<f32> = numbers(1, batch * channels * h * w)
                .iter()
                .map(|v| v * v * v * scale + offset)
                .collect();
            let kept = some(2, x.len());
            let tensor = Tensor::from_slice(&x, shape, &Device::Cpu).unwrap();
            let kept_tensor = Tensor::from_slice(&kept, shape, &Device::Cpu).unwrap();
            let x = Array::of(&machine, &x).unwrap();
            let kept = Array::of(&machine, &kept).unwrap();
            for q in [0.0, 0.2, 0.5, 0.8, 0.999, 1.0] {
                let ours = quantile_per_channel(&x, None, channels, h * w, q).unwrap();
                assert_eq!(ours, on_cpu(&tensor, None, q).unwrap(), "{q}");
                let ours = quantile_per_channel(&x, Some(&kept), channels, h * w, q).unwrap();
                assert_eq!(ours, on_cpu(&tensor, Some(&kept_tensor), q).unwrap(), "{q}");
            }
        }
    });
}

#[test]
fn odd_input_is_answered_or_refused() {
    each_machine(|machine| {
        let of = |values: &[f32]| Array::of(&machine, values).unwrap();
        let find = |x: &[f32], mask: Option<&Array<f32>>, q| {
            quantile_per_channel(&of(x), mask, 1, x.len(), q)
        };
        let infinite = [f32::NEG_INFINITY, f32::INFINITY, 1.0, 2.0];
        assert_eq!(find(&infinite, None, 1.0).unwrap(), [Some(f32::INFINITY)]);
        assert_eq!(find(&infinite, None, 0.5).unwrap(), [Some(1.5)]);
        assert_eq!(find(&[7.0], Some(&of(&[0.0])), 0.5).unwrap(), [None]);
        assert!(find(&[f32::NAN, 1.0], None, 0.5).is_err());
        assert_eq!(
            find(&[f32::NAN, 1.0], Some(&of(&[0.0, 1.0])), 0.5).unwrap(),
            [Some(1.0)]
        );
        assert!(find(&[1.0], None, 1.1).is_err());
    });
}
