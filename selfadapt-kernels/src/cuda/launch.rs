//! One launch of a kernel: its arguments in order, checked to lie on one machine.

use std::ffi::c_void;
use std::sync::Arc;

use candle_core::{Result, bail};

use super::{Array, Machine, Number, Program};

/// Threads of a block, in every launch; `common.cuh` says the same.
pub(crate) const THREADS: u32 = 256;

/// Blocks of a launch that goes over elements with a stride of the whole grid: enough for every GPU of today.
const MOST_BLOCKS: u32 = 4096;

/// Collects a kernel's arguments.
pub(crate) struct Launch<'a> {
    program: &'static Program,
    kernel: &'static str,
    machine: &'a Arc<dyn Machine>,
    foreign: bool,
    /// Eight bytes each that begin with the value to be passed.
    arguments: Vec<u64>,
}

impl<'a> Launch<'a> {
    pub fn new(
        machine: &'a Arc<dyn Machine>,
        program: &'static Program,
        kernel: &'static str,
    ) -> Self {
        Self {
            program,
            kernel,
            machine,
            foreign: false,
            arguments: Vec::new(),
        }
    }

    /// Passes an array's address.
    pub fn array<T: Number>(mut self, array: &Array<T>) -> Self {
        self.foreign |= !Arc::ptr_eq(self.machine, array.machine());
        self.push(array.address().to_ne_bytes())
    }

    /// Passes an array's address for the kernel to write to.
    pub fn out<T: Number>(self, array: &mut Array<T>) -> Self {
        self.array(array)
    }

    /// Passes an array's address, or a null pointer.
    pub fn maybe<T: Number>(self, array: Option<&Array<T>>) -> Self {
        match array {
            Some(array) => self.array(array),
            None => self.push(0u64.to_ne_bytes()),
        }
    }

    /// Passes a `float`.
    pub fn f32(self, value: f32) -> Self {
        self.short(value.to_ne_bytes())
    }

    /// Passes a `double`.
    pub fn f64(self, value: f64) -> Self {
        self.push(value.to_ne_bytes())
    }

    /// Passes an `unsigned`.
    pub fn u32(self, value: u32) -> Self {
        self.short(value.to_ne_bytes())
    }

    fn short(self, [a, b, c, d]: [u8; 4]) -> Self {
        self.push([a, b, c, d, 0, 0, 0, 0])
    }

    fn push(mut self, bytes: [u8; 8]) -> Self {
        self.arguments.push(u64::from_ne_bytes(bytes));
        self
    }

    /// Starts the kernel on `blocks` blocks of [`THREADS`]; nothing happens on 0.
    ///
    /// # Safety
    /// The arguments are those of the kernel, in number, order and type, and its arrays as long as it goes; what it
    /// writes was passed by `out`, and by nothing else.
    ///
    /// # Errors
    /// If an array lies on another machine, or the launch fails.
    pub unsafe fn run(mut self, blocks: u32) -> Result<()> {
        if self.foreign {
            bail!(
                "{}: expected all arrays on one device, got arrays of two",
                self.kernel
            )
        }
        if blocks == 0 {
            return Ok(());
        }
        let mut pointers: Vec<*mut c_void> = self
            .arguments
            .iter_mut()
            .map(|argument| std::ptr::from_mut(argument).cast())
            .collect();
        // SAFETY: the caller vouches for the arguments; the pointers live until the call returns, which copies.
        unsafe {
            self.machine
                .launch(self.program, self.kernel, blocks, THREADS, &mut pointers)
        }
    }
}

/// Blocks for a kernel that goes over `elements` with a stride of the whole grid.
pub(crate) fn blocks_for(elements: u32) -> u32 {
    elements.div_ceil(THREADS).min(MOST_BLOCKS)
}

/// A length or size as kernels count: below 2^31.
///
/// # Errors
/// If it is larger.
pub(crate) fn count(operation: &str, elements: usize) -> Result<u32> {
    match i32::try_from(elements) {
        Ok(_) => Ok(elements as u32),
        Err(_) => bail!(
            "{operation}: expected fewer than 2^31 elements, got {elements}; take a smaller batch"
        ),
    }
}
