//! Upsampling: the numbers of its CUDA kernels against the CPU's.

use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::upsample::cuda::{
    bilinear, bilinear_backward, nearest_2x, nearest_2x_backward,
};
use selfadapt_kernels::upsample::{
    bilinear_backward as bilinear_backward_on_cpu, bilinear_forward,
    nearest_2x_backward as nearest_2x_backward_on_cpu, nearest_2x_forward,
};

use crate::emulator::{largest_difference, numbers};
use crate::machines::each_machine;

#[test]
fn nearest_is_the_cpus_to_the_bit() {
    each_machine(|machine| {
        let (h, w) = (5, 7);
        let (x, dy) = (numbers(1, 3 * h * w), numbers(2, 12 * h * w));
        let (mut y, mut dx) = (dy.clone(), x.clone());
        nearest_2x_forward(&x, h, w, &mut y);
        nearest_2x_backward_on_cpu(&dy, h, w, &mut dx);
        let (x, dy) = (
            Array::of(&machine, &x).unwrap(),
            Array::of(&machine, &dy).unwrap(),
        );
        assert_eq!(nearest_2x(&x, (h, w)).unwrap().read().unwrap(), y);
        assert_eq!(
            nearest_2x_backward(&dy, (h, w)).unwrap().read().unwrap(),
            dx
        );
        assert!(nearest_2x(&x, (4, 4)).is_err());
    });
}

#[test]
fn bilinear_is_the_cpus() {
    each_machine(|machine| {
        for (from, to) in [
            ((5, 7), (10, 14)),
            ((6, 4), (17, 3)),
            ((1, 1), (4, 5)),
            ((9, 8), (1, 2)),
            ((2, 33), (31, 32)),
        ] {
            let (x, dy) = (numbers(1, 2 * from.0 * from.1), numbers(2, 2 * to.0 * to.1));
            let (mut y, mut dx) = (dy.clone(), x.clone());
            bilinear_forward(&x, from, to, &mut y);
            bilinear_backward_on_cpu(&dy, from, to, &mut dx);
            let (x, dy) = (
                Array::of(&machine, &x).unwrap(),
                Array::of(&machine, &dy).unwrap(),
            );
            assert_eq!(
                bilinear(&x, from, to).unwrap().read().unwrap(),
                y,
                "{from:?} {to:?}"
            );
            let ours = bilinear_backward(&dy, from, to).unwrap().read().unwrap();
            let off = largest_difference(&ours, &dx);
            assert!(off < 2e-5, "{from:?} {to:?}: {off}");
        }
    });
}
