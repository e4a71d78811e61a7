//! Large buffers that are kept when they are dropped and used again: fresh memory costs a page fault for every
//! 4 KiB, a fifth of a training step.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::lines::Lines;

/// How much more than the most that was ever in use may be held, as a share of it.
const SLACK: f64 = 0.25;

static POOL: Mutex<Pool> = Mutex::new(Pool::EMPTY);

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
    const EMPTY: Self = Self {
        free: Vec::new(),
        kept: 0,
        in_use: 0,
        most: 0,
    };

    /// Free memory for `len` values; none where new memory, [`Lines::rounded`], is to be made, which counts as in use.
    fn take(&mut self, len: usize) -> Option<Lines> {
        let found = self.fitting(len);
        self.in_use += found
            .as_ref()
            .map_or(Lines::rounded(len), |held| held.len());
        self.most = self.most.max(self.in_use);
        if found.is_none() {
            self.shrink();
        }
        found
    }

    /// Keeps what was in use for later.
    fn put(&mut self, values: Lines) {
        self.in_use -= values.len();
        self.kept += values.len();
        self.free.push(values);
        self.shrink();
    }

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
        // New memory is made unlocked.
        let found = pool().take(len);
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
        pool().put(std::mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Pools of their own: what other tests hold decides what the one of all threads does.
    fn taken(pool: &mut Pool, len: usize) -> Lines {
        pool.take(len).unwrap_or_else(|| Lines::zeros(len))
    }

    #[test]
    fn memory_comes_back_for_lengths_near_its_own() {
        let mut pool = Pool::EMPTY;
        let first = taken(&mut pool, 1_000_003);
        let (address, second) = (first.as_ptr(), taken(&mut pool, 1_000_003));
        assert_ne!(address, second.as_ptr());
        pool.put(first);
        let third = taken(&mut pool, 900_001);
        assert_eq!(third.as_ptr(), address);
        pool.put(third);
        // Not by its address: what is given back to the system for new memory may be where that comes to lie.
        let small = pool.take(490_001);
        assert!(small.is_none(), "half of it would be wasted");
    }

    #[test]
    fn buffers_begin_at_cache_lines_and_hold_what_is_written() {
        let mut buffer = Buffer::take(1_000_003);
        buffer.fill(7.0);
        assert_eq!(
            (buffer.as_ptr() as usize % 64, buffer.len()),
            (0, 1_000_003)
        );
        drop(buffer);
        assert_eq!(Buffer::take(900_001).len(), 900_001);
        assert_eq!(*Buffer::copy_of(&[1.0, 2.0]), [1.0, 2.0]);
    }

    #[test]
    fn larger_memory_serves_rather_than_being_given_back() {
        let held = Lines::zeros(1_000_003);
        let mut pool = Pool {
            kept: held.len(),
            free: vec![held],
            in_use: 1_000_000,
            most: 2_000_100,
        };
        // 500,109 more may be held.
        let small = pool.fitting(500_001);
        assert!(small.is_none(), "half of it would be wasted");
        let found = pool.fitting(510_000).map(|held| held.len());
        assert_eq!(found, Some(Lines::rounded(1_000_003)));
        assert_eq!((pool.kept, pool.free.len()), (0, 0));
        let held = Lines::zeros(1_000_003);
        pool.kept = held.len();
        pool.free.push(held);
        pool.in_use = pool.allowed();
        assert!(pool.fitting(125_000).is_none(), "more than eight times");
    }
}
