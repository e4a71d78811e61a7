//! Masked losses: the numbers of its CUDA kernels against the CPU's.

use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::masked_loss::cuda::{
    masked_bce_with_logits, masked_cross_entropy, masked_mse,
};
use selfadapt_kernels::masked_loss::{
    BinaryCrossEntropy, SquaredError, cross_entropy, masked_mean,
};

use crate::emulator::{largest_difference, mask as some, numbers};
use crate::machines::each_machine;

#[test]
fn losses_and_gradients_are_the_cpus() {
    each_machine(|machine| {
        let of = |values: &[f32]| Array::of(&machine, values).unwrap();
        for len in [1, 17, 70_001] {
            let mut logits: Vec<f32> = numbers(1, len).iter().map(|v| v * 20.0).collect();
            let target: Vec<f32> = numbers(2, len).iter().map(|v| v.abs()).collect();
            let mut kept = some(3, len);
            kept[0] = 1.0;
            if len > 1 {
                // What is masked does not count, whatever it is.
                (kept[1], logits[1]) = (0.0, f32::NAN);
            }
            let (x, t, m) = (of(&logits), of(&target), of(&kept));
            let mut cpu = vec![0.0; len];
            let mut there = Array::room(&machine, len).unwrap();
            let ours = masked_bce_with_logits(&x, &t, &m, Some(&mut there)).unwrap();
            let theirs = masked_mean(&BinaryCrossEntropy, &logits, &target, &kept, Some(&mut cpu));
            assert!((ours - theirs).abs() < 1e-6 * theirs, "{ours} {theirs}");
            let most = 1e-6 / kept.iter().sum::<f32>();
            assert!(largest_difference(&there.read().unwrap(), &cpu) <= most);

            let ours = masked_mse(&x, &t, &m, Some(&mut there)).unwrap();
            let theirs = masked_mean(&SquaredError, &logits, &target, &kept, Some(&mut cpu));
            assert!((ours - theirs).abs() < 1e-6 * theirs, "{ours} {theirs}");
            assert_eq!(there.read().unwrap(), cpu);
            assert_eq!(masked_mse(&x, &t, &m, None).unwrap(), ours);
        }
    });
}

#[test]
fn cross_entropy_is_the_cpus() {
    each_machine(|machine| {
        let of = |values: &[f32]| Array::of(&machine, values).unwrap();
        let (batch, classes, pixels) = (3, 4, 1_001);
        let logits: Vec<f32> = numbers(1, batch * classes * pixels)
            .iter()
            .map(|v| v * 9.0)
            .collect();
        let target: Vec<f32> = numbers(2, logits.len()).iter().map(|v| v.abs()).collect();
        let kept = some(3, batch * pixels);
        let mut cpu = vec![0.0; logits.len()];
        let theirs = cross_entropy(&logits, &target, &kept, classes, pixels, Some(&mut cpu));
        let mut there = Array::room(&machine, logits.len()).unwrap();
        let (x, t, m) = (of(&logits), of(&target), of(&kept));
        let ours = masked_cross_entropy(&x, &t, &m, classes, pixels, Some(&mut there)).unwrap();
        assert!((ours - theirs).abs() < 1e-6 * theirs, "{ours} {theirs}");
        let most = 1e-6 / kept.iter().sum::<f32>();
        assert!(largest_difference(&there.read().unwrap(), &cpu) <= most);
        assert!(masked_cross_entropy(&x, &t, &m, 5, pixels, None).is_err());
    });
}

#[test]
fn nothing_kept_is_zero() {
    each_machine(|machine| {
        let (x, zero) = (
            Array::of(&machine, &[1.0, f32::INFINITY]).unwrap(),
            Array::zeros(&machine, 2).unwrap(),
        );
        let mut there = Array::room(&machine, 2).unwrap();
        assert_eq!(masked_mse(&x, &zero, &zero, Some(&mut there)).unwrap(), 0.0);
        assert_eq!(there.read().unwrap(), [0.0, 0.0]);
        assert!(masked_mse(&x, &zero, &Array::zeros(&machine, 3).unwrap(), None).is_err());
    });
}
