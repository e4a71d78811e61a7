//! Crops drawn across all images at the model's working scale, with bounded memory.

use std::collections::VecDeque;
use std::sync::Mutex;

use candle_core::{Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::perturb::reflect;

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
    /// If it cannot be read or prepared.
    fn prepared(&self, index: usize) -> Result<Tensor>;
}

/// Keeps the most recently used images of a source, up to a number of bytes.
pub struct Cached<S> {
    source: S,
    capacity: usize,
    /// Oldest use first.
    kept: Mutex<VecDeque<(usize, Tensor)>>,
}

impl<S: ImageSource> Cached<S> {
    /// Keeps at most `capacity` bytes of prepared pixels.
    pub fn new(source: S, capacity: usize) -> Self {
        Self {
            source,
            capacity,
            kept: Mutex::new(VecDeque::new()),
        }
    }
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
        let poisoned = |_| Error::Setting("the image cache was left in pieces by a panic".into());
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
        let image = self.source.prepared(index)?;
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

/// Draws square crops: an image evenly, then a place in it evenly.
#[derive(Clone, Copy, Debug)]
pub struct CropSampler {
    /// Side of a crop, in pixels of the working scale.
    pub side: usize,
    /// Crops in a batch.
    pub batch: usize,
}

impl CropSampler {
    /// A batch `[B, C, side, side]`; images smaller than a crop are mirrored at their edges.
    ///
    /// A crop whose every channel is constant teaches nothing and is drawn again, up to eight times.
    ///
    /// # Errors
    /// If the source is empty or an image cannot be read.
    pub fn draw(
        &self,
        source: &dyn ImageSource,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Result<Tensor> {
        if source.is_empty() {
            return Err(Error::Image("there is no image to draw crops from".into()));
        }
        let mut crops = Vec::with_capacity(self.batch);
        for _ in 0..self.batch {
            let mut crop = self.one(source, rng)?;
            for _ in 0..8 {
                if !is_blank(&crop)? {
                    break;
                }
                crop = self.one(source, rng)?;
            }
            crops.push(crop);
        }
        Ok(Tensor::stack(&crops, 0)?.to_device(device)?)
    }

    fn one(&self, source: &dyn ImageSource, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let image = source.prepared(rng.random_range(0..source.len()))?;
        let (_, height, width) = image.dims3()?;
        let mut start = |size: usize| rng.random_range(0..=size.saturating_sub(self.side));
        let (top, left) = (start(height), start(width));
        crop(&image, (top, left), (self.side, self.side))
    }
}

/// Cuts `[C, height, width]` out of an image, mirroring at the edges where it reaches beyond.
///
/// # Errors
/// If `image` is not `[C, H, W]`.
pub fn crop(
    image: &Tensor,
    (top, left): (usize, usize),
    (height, width): (usize, usize),
) -> Result<Tensor> {
    let (_, rows, columns) = image.dims3()?;
    if top + height <= rows && left + width <= columns {
        return Ok(image
            .narrow(1, top, height)?
            .narrow(2, left, width)?
            .contiguous()?);
    }
    let mirrored = |start: usize, length: usize, size: usize| {
        Tensor::from_iter(
            (start..start + length).map(move |i| reflect(i as isize, size) as u32),
            image.device(),
        )
    };
    Ok(image
        .contiguous()?
        .index_select(&mirrored(top, height, rows)?, 1)?
        .index_select(&mirrored(left, width, columns)?, 2)?)
}

/// Whether every channel is constant.
///
/// # Errors
/// If `image` is not `[C, H, W]`.
pub fn is_blank(image: &Tensor) -> Result<bool> {
    let (channels, height, width) = image.dims3()?;
    let pixels = image
        .reshape((channels, height * width))?
        .to_vec2::<f32>()?;
    Ok(pixels
        .iter()
        .all(|plane| plane.iter().all(|&v| v == plane[0])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Ramps {
        sizes: Vec<(usize, usize)>,
        reads: AtomicUsize,
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

    fn ramps(sizes: &[(usize, usize)]) -> Ramps {
        Ramps {
            sizes: sizes.to_vec(),
            reads: AtomicUsize::new(0),
        }
    }

    #[test]
    fn crops_come_from_every_image_and_repeat_with_the_seed() {
        let source = ramps(&[(40, 50), (16, 16), (5, 60)]);
        let sampler = CropSampler {
            side: 16,
            batch: 12,
        };
        let draw = |seed| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let batch = sampler.draw(&source, &mut rng, &Device::Cpu).unwrap();
            assert_eq!(batch.dims(), [12, 1, 16, 16]);
            batch.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let first = draw(5);
        assert_eq!(first, draw(5));
        assert_ne!(first, draw(6));
        for image in 0..3 {
            let range = image as f32 * 10_000.;
            assert!(
                first.iter().any(|v| (range..range + 5_000.).contains(v)),
                "image {image}"
            );
        }
    }

    #[test]
    fn a_small_image_is_mirrored() {
        let image = Tensor::new(&[[[1f32, 2., 3.]]], &Device::Cpu).unwrap();
        let cut = crop(&image, (0, 0), (2, 6)).unwrap();
        let row = [1., 2., 3., 2., 1., 2.];
        assert_eq!(
            cut.to_vec3::<f32>().unwrap(),
            [[row.to_vec(), row.to_vec()]]
        );
    }

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
