//! Working memory of the kernels, kept by each thread from one call to the next.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::lines::Lines;

/// How many buffers a thread keeps at most; a convolution holds four at a time.
const KEPT: usize = 8;

thread_local! {
    static FREE: RefCell<Vec<Lines>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `f32` aligned to a cache line; its memory goes back to the thread that drops it.
pub(crate) struct Scratch {
    lines: Lines,
    len: usize,
}

/// A buffer of `len` values; what they are is unspecified (they come from earlier uses).
pub(crate) fn take(len: usize) -> Scratch {
    let mut lines = FREE.with_borrow_mut(|free| {
        // The smallest that is large enough, else the largest (to be replaced by a larger one).
        let fitting = (0..free.len())
            .filter(|&i| free[i].len() >= len)
            .min_by_key(|&i| free[i].len());
        let chosen = fitting.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
        chosen.map(|i| free.swap_remove(i)).unwrap_or_default()
    });
    if lines.len() < len {
        lines = Lines::zeros(len);
    }
    Scratch { lines, len }
}

/// Working memory of 16-bit values.
pub(crate) struct Halves(Scratch);

/// A buffer of `len` 16-bit values; what they are is unspecified.
pub(crate) fn take_halves(len: usize) -> Halves {
    Halves(take(2 * len.div_ceil(4)))
}

impl Deref for Halves {
    type Target = [u16];

    fn deref(&self) -> &[u16] {
        // SAFETY: `2 n` values of f32, aligned and initialised, are `4 n` of u16; any bits are a u16.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), 2 * self.0.len()) }
    }
}

impl DerefMut for Halves {
    fn deref_mut(&mut self) -> &mut [u16] {
        // SAFETY: as in `deref`, and any bits are an f32; the unique borrow of `self` makes this one unique.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 2 * self.0.len()) }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.lines[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.lines[..self.len]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        // While a thread ends its list may be gone already: then the memory is simply freed.
        let _ = FREE.try_with(|free| {
            if let Ok(mut free) = free.try_borrow_mut()
                && free.len() < KEPT
            {
                free.push(lines);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_comes_back() {
        let first = take(1000);
        let address = first.as_ptr();
        assert_eq!(address as usize % 64, 0);
        assert_eq!(first.len(), 1000);
        drop(first);
        let second = take(900);
        assert_eq!((second.as_ptr(), second.len()), (address, 900));
    }

    #[test]
    fn two_buffers_at_once_do_not_overlap() {
        let (mut a, mut b) = (take(100), take(100));
        a.fill(1.0);
        b.fill(2.0);
        assert!(a.iter().all(|&v| v == 1.0) && b.iter().all(|&v| v == 2.0));
    }
}
