//! Memory of `f32` that begins at a cache line, for a vector of 64 bytes that lies across two costs two accesses; large
//! memory in pages of 2 MiB where the system has them, for planes are walked a row here and a row there.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// A cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

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
        let (values, len) = match &self.0 {
            Memory::Lines(lines) => (lines.as_ptr().cast(), LINE * lines.len()),
            Memory::Pages(pages) => (pages.as_ptr().cast(), pages.len() / size_of::<f32>()),
        };
        // SAFETY: `Line` is `repr(C)` over `[f32; 16]`, whose 64 bytes its alignment does not pad; a mapping begins at
        // a page, is zero at first, and is nobody else's. So these are `len` initialised f32.
        unsafe { std::slice::from_raw_parts(values, len) }
    }
}

impl DerefMut for Lines {
    fn deref_mut(&mut self) -> &mut [f32] {
        let (values, len) = match &mut self.0 {
            Memory::Lines(lines) => (lines.as_mut_ptr().cast(), LINE * lines.len()),
            Memory::Pages(pages) => (pages.as_mut_ptr().cast(), pages.len() / size_of::<f32>()),
        };
        // SAFETY: as in `deref`; the unique borrow of `self` makes this one unique.
        unsafe { std::slice::from_raw_parts_mut(values, len) }
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
