//! The optimiser: the numbers of its CUDA kernels against the CPU's.

use selfadapt_kernels::adamw::cuda::{Moments, update};
use selfadapt_kernels::adamw::{AdamW, Coefficients, Settings, update as on_cpu};
use selfadapt_kernels::cuda::Array;

use crate::emulator::numbers;
use crate::machines::each_machine;

#[test]
fn a_step_is_the_cpus_to_the_bit() {
    each_machine(|machine| {
        for (len, l2sp) in [(1, 0.0), (3_001, 1e-2), (100_003, 1e-3)] {
            let [mut w, g, a, mut t] = [1, 2, 3, 4].map(|seed| numbers(seed, len));
            let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
            let of = |values: &[f32]| Array::of(&machine, values).unwrap();
            let (mut weight, gradient, anchor, mut teacher) = (of(&w), of(&g), of(&a), of(&t));
            let mut moments = Moments::new(&machine, len).unwrap();
            for steps in 1..4 {
                let settings = Settings {
                    rate: 1e-2,
                    weight_decay: 1e-3,
                    l2sp,
                    scale: 0.5,
                };
                let c = Coefficients::new(&AdamW::default(), steps, &settings);
                let kept = Some((&mut t[..], 0.9));
                let theirs = on_cpu(&mut w, &g, &a, &mut first, &mut second, kept, &c);
                let kept = Some((&mut teacher, 0.9));
                let ours = update(&mut weight, &gradient, &anchor, &mut moments, kept, &c).unwrap();
                assert!((ours - theirs).abs() <= 1e-6 * theirs, "{ours} {theirs}");
            }
            for (device, cpu) in [
                (&weight, &w),
                (&teacher, &t),
                (&moments.first, &first),
                (&moments.second, &second),
            ] {
                assert_eq!(&device.read().unwrap(), cpu);
            }
        }
    });
}

#[test]
fn another_length_is_refused_by_name() {
    each_machine(|machine| {
        let [mut weight, other] = [3, 4].map(|len| Array::zeros(&machine, len).unwrap());
        let mut moments = Moments::new(&machine, 3).unwrap();
        let settings = Settings {
            rate: 1.0,
            weight_decay: 0.0,
            l2sp: 0.0,
            scale: 1.0,
        };
        let c = Coefficients::new(&AdamW::default(), 1, &settings);
        let error = update(&mut weight, &other, &other, &mut moments, None, &c).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("adamw: expected the gradient to have 3 numbers, got 4"),
            "{error}"
        );
    });
}
