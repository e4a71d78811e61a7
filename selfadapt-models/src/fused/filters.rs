//! Packed filters kept from one call to the next, for as long as the weights they were packed from are the same.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Result;
use selfadapt_kernels::conv2d::PackedFilters;

/// The filters of one convolution and a copy of the weights they stand for: weights are changed in place and carry no
/// version, and comparing them takes a fraction of packing them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterCache(Arc<Mutex<Option<Kept>>>);

#[derive(Debug)]
struct Kept {
    weight: Vec<f32>,
    filters: Arc<PackedFilters>,
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
        if let Some(kept) = self.lock().as_ref()
            && kept.filters.is_current()
            && same_bits(&kept.weight, weight)
        {
            return Ok(kept.filters.clone());
        }
        // Unlocked: packing runs on all threads, one of which may come here for another call meanwhile.
        let filters = Arc::new(pack()?);
        let mut kept = self.lock();
        let mut copy = kept.take().map(|old| old.weight).unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(weight);
        *kept = Some(Kept {
            weight: copy,
            filters: filters.clone(),
        });
        Ok(filters)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
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
