//! Images at the working scale: read when asked for, the last ones kept, damaged ones left out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use candle_core::Tensor;

use crate::error::{Error, Result};

/// Images at the working scale, read when asked for.
pub trait ImageSource: Send + Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What to call image `index` in a message.
    fn name(&self, index: usize) -> String;

    /// Image `index`, prepared: `[C, H, W]` on the CPU.
    ///
    /// # Errors
    /// [`Error::Image`] if it is damaged or does not suit the model: another one will do. Any other error ends the run; so a file
    /// that is gone should, for when a disk is lost, a run would go on with the few images that are still in memory.
    fn prepared(&self, index: usize) -> Result<Tensor>;
}

/// Keeps the most recently used images of a source, up to a number of bytes, and what is wrong with those that failed.
pub struct Cached<S> {
    source: S,
    capacity: usize,
    /// Oldest use first.
    kept: Mutex<VecDeque<(usize, Tensor)>>,
    failed: Mutex<BTreeMap<usize, String>>,
}

impl<S: ImageSource> Cached<S> {
    /// Keeps at most `capacity` bytes of prepared pixels.
    pub fn new(source: S, capacity: usize) -> Self {
        Self {
            source,
            capacity,
            kept: Mutex::new(VecDeque::new()),
            failed: Mutex::new(BTreeMap::new()),
        }
    }

    /// Why images that were asked for cannot be used, in their order; once, where neighbours share a reason.
    ///
    /// # Errors
    /// If a panic left the cache in pieces.
    pub fn left_out(&self) -> Result<Vec<String>> {
        let failed = self.failed.lock().map_err(poisoned)?;
        let mut reasons: Vec<String> = failed.values().cloned().collect();
        reasons.dedup();
        Ok(reasons)
    }

    /// Reads an image; one that failed is not read again, and told of once.
    fn read(&self, index: usize) -> Result<Tensor> {
        if let Some(reason) = self.failed.lock().map_err(poisoned)?.get(&index) {
            return Err(Error::Image(reason.clone()));
        }
        self.source.prepared(index).inspect_err(|error| {
            if let Error::Image(reason) = error
                && let Ok(mut failed) = self.failed.lock()
            {
                // Parts of one file fail alike, and are told of once.
                if !failed.values().any(|told| told == reason) {
                    tracing::warn!("left out: {reason}");
                }
                failed.insert(index, reason.clone());
            }
        })
    }
}

fn poisoned<T>(_: std::sync::PoisonError<T>) -> Error {
    Error::Setting("the image cache was left in pieces by a panic".into())
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

impl<S: ImageSource> ImageSource for Cached<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn prepared(&self, index: usize) -> Result<Tensor> {
        {
            let mut kept = self.kept.lock().map_err(poisoned)?;
            if let Some(at) = kept.iter().position(|(i, _)| *i == index)
                && let Some(entry) = kept.remove(at)
            {
                let image = entry.1.clone();
                kept.push_back(entry);
                return Ok(image);
            }
        }
        let image = self.read(index)?;
        let mut kept = self.kept.lock().map_err(poisoned)?;
        kept.push_back((index, image.clone()));
        let mut held: usize = kept.iter().map(|(_, tensor)| bytes(tensor)).sum();
        while held > self.capacity
            && let Some((_, oldest)) = kept.pop_front()
        {
            held -= bytes(&oldest);
        }
        Ok(image)
    }
}

/// Sources for tests.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use candle_core::Device;
    use std::sync::atomic::{AtomicUsize, Ordering};

    pub struct Ramps {
        pub sizes: Vec<(usize, usize)>,
        pub reads: AtomicUsize,
    }

    impl ImageSource for Ramps {
        fn len(&self) -> usize {
            self.sizes.len()
        }

        fn name(&self, index: usize) -> String {
            format!("ramp {index}")
        }

        fn prepared(&self, index: usize) -> Result<Tensor> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let (height, width) = self.sizes[index];
            let ramp = Tensor::arange(0f32, (height * width) as f32, &Device::Cpu)?;
            Ok((ramp.reshape((1, height, width))? + 10_000. * index as f64)?)
        }
    }

    pub fn ramps(sizes: &[(usize, usize)]) -> Ramps {
        Ramps {
            sizes: sizes.to_vec(),
            reads: AtomicUsize::new(0),
        }
    }

    /// A source of which some images are damaged and one may be gone.
    pub struct Damaged {
        pub whole: Ramps,
        pub damaged: Vec<usize>,
        pub gone: Option<usize>,
    }

    impl ImageSource for Damaged {
        fn len(&self) -> usize {
            self.whole.len()
        }

        fn name(&self, index: usize) -> String {
            self.whole.name(index)
        }

        fn prepared(&self, index: usize) -> Result<Tensor> {
            if self.damaged.contains(&index) {
                return Err(Error::Image(format!("{index} is damaged")));
            }
            if self.gone == Some(index) {
                return Err(Error::read("/no/such/file", "it is gone"));
            }
            self.whole.prepared(index)
        }
    }

    pub fn damaged(damaged: &[usize], gone: Option<usize>) -> Cached<Damaged> {
        let whole = ramps(&[(20, 20), (20, 20), (20, 20)]);
        Cached::new(
            Damaged {
                whole,
                damaged: damaged.to_vec(),
                gone,
            },
            1 << 20,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::ramps;
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn the_cache_reads_once_within_its_capacity_and_again_beyond() {
        let source = Cached::new(ramps(&[(10, 10), (10, 10), (10, 10)]), 800);
        for index in [0, 1, 0, 1, 0] {
            source.prepared(index).unwrap();
        }
        assert_eq!(source.source.reads.load(Ordering::Relaxed), 2);
        source.prepared(2).unwrap();
        source.prepared(0).unwrap();
        assert_eq!(
            source.source.reads.load(Ordering::Relaxed),
            3,
            "0 was used last and stays"
        );
        source.prepared(1).unwrap();
        assert_eq!(source.source.reads.load(Ordering::Relaxed), 4);
    }
}
