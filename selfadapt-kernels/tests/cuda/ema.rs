//! The moving average: the numbers of its CUDA kernels against the CPU's.

use candle_core::{Device, Tensor, Var};
use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::ema::cuda::ema;
use selfadapt_kernels::ema::ema as on_cpu;

use crate::emulator::numbers;
use crate::machines::each_machine;

#[test]
fn the_average_is_the_cpus_to_the_bit() {
    each_machine(|machine| {
        let [teacher, student] = [1, 2].map(|seed| numbers(seed, 1_234));
        let mut there = Array::of(&machine, &teacher).unwrap();
        let student_there = Array::of(&machine, &student).unwrap();
        ema(&mut there, &student_there, 0.99).unwrap();
        let teacher = Var::from_slice(&teacher, 1_234, &Device::Cpu).unwrap();
        let student = Tensor::from_slice(&student, 1_234, &Device::Cpu).unwrap();
        on_cpu(&[&teacher], &[&student], 0.99).unwrap();
        assert_eq!(there.read().unwrap(), teacher.to_vec1::<f32>().unwrap());
        assert!(ema(&mut there, &student_there, 1.5).is_err());
    });
}
