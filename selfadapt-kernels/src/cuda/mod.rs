//! Kernels on NVIDIA's GPUs: memory, launches and compilation at run time, through libraries that are looked for when
//! they are first needed. Each operation's `.cu` and its launch lie in the operation's folder.
//!
//! A `.cu` file knows [`common.cuh`](PREAMBLE) and nothing else: the same text compiles under NVRTC and, with
//! `tests/cuda/emulator.h`, as C++, which is how its numbers are checked where there is no GPU.

mod array;
mod gpu;
mod launch;
mod machine;
mod nvrtc;
mod program;
mod sums;

pub use array::{Array, Number};
pub use gpu::{gpus, open};
pub use machine::Machine;
pub use nvrtc::{compile, present};
pub use program::{PREAMBLE, PROGRAMS, Program};

pub(crate) use launch::{Launch, blocks_for, count};
pub(crate) use sums::{PARTS, add_up};
