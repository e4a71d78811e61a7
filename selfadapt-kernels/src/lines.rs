//! Memory of `f32` that begins at a cache line, for a vector of 64 bytes that lies across two costs two accesses; large
//! memory in pages of 2 MiB where the system has them, for planes are walked a row here and a row there.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;
use pulp::bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

// SAFETY: numbers whose bits may all be 0.
unsafe impl Zeroable for Line {}
// SAFETY: `repr(C)` over sixteen f32, of which any bits are valid; they fill the 64 bytes of its alignment, so there is no
// padding.
unsafe impl Pod for Line {}

const LINE: usize = 16;

/// From how many values on memory is asked of the system directly, in large pages.
const LARGE: usize = 1 << 20;

/// Whole lines of values.
#[derive(Debug)]
pub(crate) struct Lines(Memory);

#[derive(Debug)]
enum Memory {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl Lines {
    /// At least `len` values, [`Lines::rounded`] of them, zero.
    pub fn zeros(len: usize) -> Self {
        if len >= LARGE
            && let Ok(pages) = MmapMut::map_anon(Self::rounded(len) * size_of::<f32>())
        {
            // A wish: without large pages all is as right, and slower.
            #[cfg(target_os = "linux")]
            let _ = pages.advise(memmap2::Advice::HugePage);
            return Self(Memory::Pages(pages));
        }
        Self(Memory::Lines(vec![Line([0.0; LINE]); len.div_ceil(LINE)]))
    }

    /// How many values the lines have that hold `len`.
    pub fn rounded(len: usize) -> usize {
        len.next_multiple_of(LINE)
    }
}

impl Default for Lines {
    fn default() -> Self {
        Self(Memory::Lines(Vec::new()))
    }
}

impl Deref for Lines {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &self.0 {
            Memory::Lines(lines) => cast_slice(lines),
            Memory::Pages(pages) => cast_slice(pages),
        }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        match &mut self.0 {
            Memory::Lines(lines) => cast_slice_mut(lines),
            Memory::Pages(pages) => cast_slice_mut(pages),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_memory_is_zero_begins_at_a_line_and_can_be_written() {
        for len in [0, 1, 16, 1000, LARGE, LARGE + 17] {
            let mut lines = Lines::zeros(len);
            assert_eq!(lines.len(), Lines::rounded(len));
            assert_eq!(lines.as_ptr() as usize % 64, 0);
            assert!(lines.iter().all(|&value| value == 0.0));
            if let Some(last) = lines.last_mut() {
                *last = 1.0;
                assert_eq!(lines.iter().sum::<f32>(), 1.0);
            }
        }
    }
}
