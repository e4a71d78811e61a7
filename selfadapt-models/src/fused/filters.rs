//! What was made of weights, kept from one call to the next for as long as the weights are the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Result;
use selfadapt_kernels::conv2d::PackedFilters;

/// Something made of a weight, such as packed filters, and a copy of the weight that it stands for: weights are changed in
/// place and carry no version, and comparing them takes a fraction of packing or uploading them.
#[derive(Debug)]
pub(crate) struct Cache<T>(Arc<Mutex<Option<Kept<T>>>>);

/// The filters of one convolution on the CPU.
pub(crate) type FilterCache = Cache<PackedFilters>;

#[derive(Debug)]
struct Kept<T> {
    weight: Vec<f32>,
    made: Arc<T>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl FilterCache {
    /// The kept filters if they stand for `weight`, else those that `pack` makes, which are kept.
    ///
    /// # Errors
    /// As `pack`.
    pub fn of(
        &self,
        weight: &[f32],
        pack: impl FnOnce() -> Result<PackedFilters>,
    ) -> Result<Arc<PackedFilters>> {
        self.made_of(weight, PackedFilters::is_current, pack)
    }
}

impl<T> Cache<T> {
    /// What is kept if it stands for `weight` and is still `good`, else what `make` makes, which is kept.
    ///
    /// # Errors
    /// As `make`.
    pub fn made_of(
        &self,
        weight: &[f32],
        good: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        if let Some(kept) = self.lock().as_ref()
            && good(&kept.made)
            && same_bits(&kept.weight, weight)
        {
            return Ok(kept.made.clone());
        }
        // Unlocked: packing runs on all threads, one of which may come here for another call meanwhile.
        let made = Arc::new(make()?);
        let mut kept = self.lock();
        let mut copy = kept.take().map(|old| old.weight).unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(weight);
        *kept = Some(Kept {
            weight: copy,
            made: made.clone(),
        });
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept<T>>> {
        // What is kept is replaced as a whole, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether two slices hold the same numbers, bit for bit (a NaN equals itself).
fn same_bits(a: &[f32], b: &[f32]) -> bool {
    const RUN: usize = 1024;
    a.len() == b.len()
        && a.chunks(RUN).zip(b.chunks(RUN)).all(|(a, b)| {
            let different = a
                .iter()
                .zip(b)
                .fold(0, |bits, (a, b)| bits | (a.to_bits() ^ b.to_bits()));
            different == 0
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_kernels::conv2d::{Algorithm, Geometry};

    #[test]
    fn filters_are_packed_again_only_when_a_weight_has_changed() {
        let geometry = Geometry::new([1, 2, 4, 4], [3, 2, 3, 3], 1).unwrap();
        let mut weight = vec![0.5; geometry.weight_len()];
        let cache = FilterCache::default();
        let mut packed = 0;
        let mut get = |weight: &[f32]| {
            cache
                .of(weight, || {
                    packed += 1;
                    PackedFilters::forward(&geometry, Algorithm::Auto, weight)
                })
                .unwrap();
            packed
        };
        assert_eq!((get(&weight), get(&weight)), (1, 1));
        weight[53] = -0.0;
        assert_eq!((get(&weight), get(&weight)), (2, 2));
        weight[53] = 0.0;
        assert_eq!(get(&weight), 3);
        weight[0] = f32::NAN;
        assert_eq!((get(&weight), get(&weight)), (4, 4));
    }
}
