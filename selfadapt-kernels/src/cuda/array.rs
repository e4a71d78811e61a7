//! Numbers in a machine's memory.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::{Result, bail};

use super::Machine;

/// A number that kernels compute with.
///
/// # Safety
/// Any bits are a value, there is no padding, and kernels have the same type.
pub unsafe trait Number: Copy + Default + Send + Sync + 'static {}

// SAFETY: IEEE numbers and integers are the same bits on both sides.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for f64 {}
// SAFETY: as above.
unsafe impl Number for u32 {}
// SAFETY: as above.
unsafe impl Number for i32 {}

/// Numbers in a machine's memory, in row-major order of whatever shape an operation gives them; freed with it.
#[derive(Debug)]
pub struct Array<T: Number> {
    machine: Arc<dyn Machine>,
    at: u64,
    len: usize,
    number: PhantomData<T>,
}

impl<T: Number> Array<T> {
    /// Room for `len` numbers; what they are is unspecified.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn room(machine: &Arc<dyn Machine>, len: usize) -> Result<Self> {
        let at = machine.allocate(len.max(1) * size_of::<T>())?;
        Ok(Self {
            machine: machine.clone(),
            at,
            len,
            number: PhantomData,
        })
    }

    /// A copy of `values`.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn of(machine: &Arc<dyn Machine>, values: &[T]) -> Result<Self> {
        let array = Self::room(machine, values.len())?;
        // SAFETY: a `Number` has no padding, so its bytes are all initialised; `room` made place for them.
        unsafe {
            let bytes = std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values));
            machine.upload(array.at, bytes)?;
        }
        Ok(array)
    }

    /// `len` numbers that are 0.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn zeros(machine: &Arc<dyn Machine>, len: usize) -> Result<Self> {
        Self::of(machine, &vec![T::default(); len])
    }

    /// The numbers, once all that was launched is done.
    ///
    /// # Errors
    /// If a kernel or the copy fails.
    pub fn read(&self) -> Result<Vec<T>> {
        let mut values = vec![T::default(); self.len];
        // SAFETY: the bytes are those of `values`, of which any are numbers; the array is as long.
        unsafe {
            let bytes = std::slice::from_raw_parts_mut(
                values.as_mut_ptr().cast(),
                size_of_val(values.as_slice()),
            );
            self.machine.download(bytes, self.at)?;
        }
        Ok(values)
    }

    /// How many numbers.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whose memory it is.
    pub fn machine(&self) -> &Arc<dyn Machine> {
        &self.machine
    }

    pub(crate) fn address(&self) -> u64 {
        self.at
    }

    /// Refuses an array of another length than `len`.
    pub(crate) fn expect(&self, operation: &str, what: &str, len: usize) -> Result<()> {
        if self.len != len {
            bail!(
                "{operation}: expected {what} to have {len} numbers, got {}",
                self.len
            )
        }
        Ok(())
    }
}

impl<T: Number> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the address came from this machine, and with the array ends the last use of it.
        unsafe { self.machine.free(self.at) }
    }
}
