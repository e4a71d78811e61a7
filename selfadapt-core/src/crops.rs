//! Crops drawn across all images at the model's working scale.

use candle_core::{Device, Tensor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::perturb::reflect;
use crate::source::ImageSource;

/// Images drawn for a crop before a source is given up on.
const TRIES: usize = 100;

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
    /// A crop whose every channel is constant teaches nothing and is drawn again, up to eight times; so is one of an image
    /// that is damaged or does not suit the model, up to a hundred times: one bad file ends no run.
    ///
    /// # Errors
    /// If the source is empty, an image is gone, or none that is drawn can be used.
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
        let mut tries = 1;
        let image = loop {
            match source.prepared(rng.random_range(0..source.len())) {
                Err(Error::Image(_)) if tries < TRIES => tries += 1,
                other => break other?,
            }
        };
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
    use crate::source::Cached;
    use crate::source::fixtures::{Damaged, damaged, ramps};
    use rand::SeedableRng;

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
    fn a_damaged_image_is_left_out_and_a_lost_one_is_not() {
        let sampler = CropSampler { side: 16, batch: 9 };
        let draw = |source: &Cached<Damaged>| {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            sampler.draw(source, &mut rng, &Device::Cpu)
        };
        let source = damaged(&[0, 1], None);
        assert_eq!(draw(&source).unwrap().dims(), [9, 1, 16, 16]);
        let told = ["0 is damaged", "1 is damaged"];
        assert_eq!(source.left_out().unwrap(), told);

        let nothing = draw(&damaged(&[0, 1, 2], None)).unwrap_err().to_string();
        assert!(nothing.contains("is damaged"), "{nothing}");
        let lost = draw(&damaged(&[0], Some(1))).unwrap_err().to_string();
        assert_eq!(lost, "/no/such/file: it is gone");
    }
}
