//! Exponential moving average: `teacher <- m teacher + (1 - m) student`, in place.
//!
//! Tensors that share the teacher's storage see the new values. Integers (counters of batches) are copied.

use candle_core::{DType, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::in_place::{Elements, same_storage, with_slice_mut};
use crate::simd::dispatched;
use crate::storage::{CHUNK, check, with_slice};

#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

const NAME: &str = "ema";

/// Moves each `teacher` towards the `student` of the same place: f32 and f64 by the average, integers by copying.
/// Nothing has moved if an error is returned.
///
/// # Errors
/// If the lists or a pair of tensors differ in length, shape or type, a pair shares its storage, a float type is
/// neither f32 nor f64, or `momentum` lies outside `[0, 1]`.
pub fn ema(teacher: &[&Var], student: &[&Tensor], momentum: f64) -> Result<()> {
    check_momentum(NAME, momentum)?;
    if teacher.len() != student.len() {
        bail!(
            "{NAME}: expected as many students as teachers ({}), got {}",
            teacher.len(),
            student.len()
        )
    }
    let mut pairs = Vec::with_capacity(teacher.len());
    for (index, (teacher, student)) in teacher.iter().zip(student).enumerate() {
        let what = format!("student {index}");
        check(NAME, &what, student, teacher.dims(), teacher.dtype())?;
        if teacher.dtype().is_float() && !matches!(teacher.dtype(), DType::F32 | DType::F64) {
            bail!(
                "{NAME}: expected f32, f64 or integers, got {:?} as {what}",
                teacher.dtype()
            )
        }
        if same_storage(teacher, student) {
            bail!("{NAME}: expected two networks, got teacher and {what} on the same storage")
        }
        pairs.push((*teacher, student.contiguous()?));
    }
    for (teacher, student) in pairs {
        match teacher.dtype() {
            DType::F32 => average::<f32>(teacher, &student, momentum)?,
            DType::F64 => average::<f64>(teacher, &student, momentum)?,
            _ => teacher.set(&student)?,
        }
    }
    Ok(())
}

pub(crate) fn check_momentum(op: &str, momentum: f64) -> Result<()> {
    if !(0.0..=1.0).contains(&momentum) {
        bail!("{op}: expected a momentum between 0 and 1, got {momentum}")
    }
    Ok(())
}

fn average<T: Elements>(teacher: &Var, student: &Tensor, momentum: f64) -> Result<()> {
    let (stays, comes) = (T::from_f64(momentum), T::from_f64(1.0 - momentum));
    with_slice::<T, _>(NAME, "the student", student, |student| {
        with_slice_mut::<T, _>(NAME, "the teacher", teacher, |teacher| {
            teacher
                .par_chunks_mut(CHUNK)
                .zip(student.par_chunks(CHUNK))
                .for_each(|(teacher, student)| lerp(teacher, student, stays, comes));
            Ok(())
        })
    })
}

dispatched! {
    /// `teacher <- stays * teacher + comes * student`.
    pub(crate) fn lerp<T: candle_core::WithDType>(teacher: &mut [T], student: &[T], stays: T, comes: T) {
        for (teacher, &student) in teacher.iter_mut().zip(student) {
            *teacher = *teacher * stays + student * comes;
        }
    }
}
