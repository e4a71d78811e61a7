//! The moving average on a GPU: for what the optimiser's pass does not move, such as running statistics.

use candle_core::Result;

use super::{NAME, check_momentum};
use crate::cuda::{Array, Launch, Program, blocks_for, count};

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "ema.cu",
    source: include_str!("ema.cu"),
    kernels: &["ema"],
};

/// `teacher <- momentum teacher + (1 - momentum) student`.
///
/// # Errors
/// If lengths differ, `momentum` lies outside `[0, 1]`, or the device fails.
pub fn ema(teacher: &mut Array<f32>, student: &Array<f32>, momentum: f64) -> Result<()> {
    check_momentum(NAME, momentum)?;
    student.expect(NAME, "the student", teacher.len())?;
    let n = count(NAME, teacher.len())?;
    let machine = teacher.machine().clone();
    let launch = Launch::new(&machine, &PROGRAM, "ema")
        .out(teacher)
        .array(student)
        .u32(n)
        .f32(momentum as f32)
        .f32((1.0 - momentum) as f32);
    // SAFETY: the arguments are the kernel's; both arrays have `n` numbers.
    unsafe { launch.run(blocks_for(n)) }
}
