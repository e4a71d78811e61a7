//! Large buffers that are kept when they are dropped and used again: fresh memory costs a page fault for every
//! 4 KiB, a fifth of a training step.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lines::Lines;

/// How much more than the most that was ever in use may be held, as a share of it.
const SLACK: f64 = 0.25;

static POOL: Mutex<Pool> = Mutex::new(Pool {
    free: Vec::new(),
    kept: 0,
    in_use: 0,
    most: 0,
});

/// Free memory, the longest unused first, and counts of values.
struct Pool {
    free: Vec<Lines>,
    kept: usize,
    in_use: usize,
    most: usize,
}

/// A buffer of `f32` that begins at a cache line; its memory serves the next [`Buffer::take`] of about the same length.
#[derive(Debug)]
pub struct Buffer {
    values: Lines,
    len: usize,
}

fn pool() -> MutexGuard<'static, Pool> {
    // Nothing between lock and unlock can leave the lists half changed.
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// The smallest free memory of at least `len` values and not much more; of up to eight times as many where new
    /// memory would have other memory given back, for that would soon be asked for anew.
    fn fitting(&mut self, len: usize) -> Option<Lines> {
        let full = self.in_use + self.kept + len > self.allowed();
        let most = if full { 8 * len } else { len + len / 2 };
        let fits = |held: &Lines| held.len() >= len && held.len() <= most;
        let best = (0..self.free.len())
            .filter(|&i| fits(&self.free[i]))
            .min_by_key(|&i| self.free[i].len())?;
        let values = self.free.remove(best);
        self.kept -= values.len();
        Some(values)
    }

    /// How many values may be held.
    fn allowed(&self) -> usize {
        (self.most as f64 * (1.0 + SLACK)) as usize
    }

    /// Gives memory back until what is held is near the most that was ever in use.
    fn shrink(&mut self) {
        let allowed = self.allowed();
        while self.in_use + self.kept > allowed && !self.free.is_empty() {
            self.kept -= self.free.remove(0).len();
        }
    }
}

impl Buffer {
    /// A buffer of `len` values; what they are is unspecified (they come from earlier uses).
    pub fn take(len: usize) -> Self {
        let mut pool = pool();
        let found = pool.fitting(len);
        pool.in_use += found
            .as_ref()
            .map_or(Lines::rounded(len), |held| held.len());
        pool.most = pool.most.max(pool.in_use);
        if found.is_none() {
            pool.shrink();
        }
        drop(pool);
        Self {
            values: found.unwrap_or_else(|| Lines::zeros(len)),
            len,
        }
    }

    /// A buffer that holds `values`.
    pub fn copy_of(values: &[f32]) -> Self {
        let mut buffer = Self::take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

/// Gives all memory that is not in use back to the system.
pub fn release() {
    let mut pool = pool();
    pool.free.clear();
    pool.kept = 0;
    pool.most = pool.in_use;
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut pool = pool();
        pool.in_use -= values.len();
        pool.kept += values.len();
        pool.free.push(values);
        pool.shrink();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // One test, because the pool is one for all threads: lengths that no other test of this crate uses.
    #[test]
    fn memory_comes_back_for_lengths_near_its_own() {
        let mut first = Buffer::take(1_000_003);
        first.fill(7.0);
        let (address, second) = (first.as_ptr(), Buffer::take(1_000_003));
        assert_ne!(address, second.as_ptr());
        assert_eq!(address as usize % 64, 0);
        drop(first);
        let third = Buffer::take(900_001);
        assert_eq!((third.as_ptr(), third.len()), (address, 900_001));
        drop(third);
        let small = Buffer::take(500_001);
        assert_ne!(small.as_ptr(), address, "half of it would be wasted");
        assert_eq!(*Buffer::copy_of(&[1.0, 2.0]), [1.0, 2.0]);
    }

    #[test]
    fn larger_memory_serves_rather_than_being_given_back() {
        let held = Lines::zeros(1024);
        let mut pool = Pool {
            kept: held.len(),
            free: vec![held],
            in_use: 1000,
            most: 2024,
        };
        // 506 more may be held.
        assert!(pool.fitting(500).is_none(), "half of it would be wasted");
        assert_eq!(pool.fitting(512).map(|held| held.len()), Some(1024));
        assert_eq!((pool.kept, pool.free.len()), (0, 0));
        pool.free.push(Lines::zeros(4112));
        pool.kept = 4112;
        assert!(pool.fitting(512).is_none(), "more than eight times");
    }
}
