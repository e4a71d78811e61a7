//! What runs kernels: memory of its own, copies from and to it, launches in order.

use std::ffi::c_void;

use candle_core::Result;

use super::Program;
use crate::device::Precision;

/// A machine that kernels run on. What it is asked for happens in the order of the calls.
///
/// # Safety
/// Addresses that [`Machine::allocate`] returned must stay valid, for as many bytes as were asked for, until they are
/// given to [`Machine::free`], and [`Machine::launch`] must run the kernel of that name in that program.
pub unsafe trait Machine: Send + Sync + std::fmt::Debug {
    /// How convolutions of networks on it round their factors.
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// Memory of so many bytes, at least 1; what is in it is unspecified. Aligned for every number.
    ///
    /// # Errors
    /// If there is not enough.
    fn allocate(&self, bytes: usize) -> Result<u64>;

    /// Gives memory back once all that was launched is done with it.
    ///
    /// # Safety
    /// `at` came from [`Machine::allocate`] of this machine, and is not used again.
    unsafe fn free(&self, at: u64);

    /// Copies to the machine.
    ///
    /// # Safety
    /// `to` is the machine's, with room for the bytes.
    ///
    /// # Errors
    /// If the copy fails.
    unsafe fn upload(&self, to: u64, bytes: &[u8]) -> Result<()>;

    /// Waits for what was launched and copies from the machine.
    ///
    /// # Safety
    /// `from` is the machine's, and holds as many bytes that were written.
    ///
    /// # Errors
    /// If the copy, or something launched before, fails.
    unsafe fn download(&self, bytes: &mut [u8], from: u64) -> Result<()>;

    /// Starts a kernel on `blocks` blocks of `threads` threads.
    ///
    /// # Safety
    /// Each of `arguments` points to a value of the type that the kernel takes in its place, addresses among them are
    /// those of this machine and as long as the kernel goes, and nothing else reads what it writes meanwhile.
    ///
    /// # Errors
    /// If the program does not compile or the launch is refused.
    unsafe fn launch(
        &self,
        program: &'static Program,
        kernel: &'static str,
        blocks: u32,
        threads: u32,
        arguments: &mut [*mut c_void],
    ) -> Result<()>;
}
