//! Seeded degradations of real images: domain shifts that can be made from any labelled set.

use ndarray::{Array3, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Poisson};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::image::{Image, PixelType};
use crate::perturb::blur;

/// A way in which an image can be worse, or only different. Labels stay right under all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Degradation {
    /// Contrast compressed tenfold over a background that slopes and bends by as much as the contrast that is left.
    LowContrast,
    /// Gaussian blur of 2.5 pixels.
    Defocus,
    /// Photon noise of at most 20 photons a pixel, and read noise of 1.5 photons.
    Noise,
    /// Bright becomes dark.
    Invert,
    /// A field three times as wide and high, of background, in whose middle the image lies.
    Sparse,
    /// A second channel: the first, blurred by 4 pixels, shifted, at a fifth of the strength, with noise.
    SecondChannel,
    /// Brightness multiplied and shifted, differently for each image of a set.
    Drift,
}

impl Degradation {
    /// The degraded image. Single-channel results except [`Degradation::SecondChannel`]; pixels are 32-bit floats
    /// in the range 0 to 255 whatever the input's was. `position` (0 to 1) is the image's place in its set.
    ///
    /// # Errors
    /// If the image cannot be rebuilt; it never is for images that hold a pixel.
    pub fn apply(self, image: &Image, seed: u64, position: f64) -> Result<Image> {
        let (height, width) = image.size();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let plane = image.pixels().index_axis(Axis(0), 0).to_owned();
        let (low, high) = percentiles(plane.iter().copied());
        let mut pixels: Vec<f32> = plane
            .iter()
            .map(|v| ((v - low) / (high - low) * 200. + 20.).clamp(0., 255.))
            .collect();
        let size = (height, width);
        let mut channels = 1;
        let mut out_size = size;
        match self {
            Self::LowContrast => {
                let (slope_y, slope_x, bend) = (
                    rng.random::<f32>(),
                    rng.random::<f32>(),
                    rng.random::<f32>(),
                );
                for (index, value) in pixels.iter_mut().enumerate() {
                    let y = (index / width) as f32 / height as f32 - 0.5;
                    let x = (index % width) as f32 / width as f32 - 0.5;
                    let background = 20. * (slope_y * y + slope_x * x + bend * (x * x + y * y));
                    *value = 100. + *value * 0.1 + background;
                }
            }
            Self::Defocus => blur(&mut pixels, size, 2.5),
            Self::Noise => {
                for value in &mut pixels {
                    let photons = f64::from(*value) / 255. * 20.;
                    let counted =
                        Poisson::new(photons.max(1e-3)).map_or(photons, |p| p.sample(&mut rng));
                    let read = Normal::new(0., 1.5).map_or(0., |n: Normal<f64>| n.sample(&mut rng));
                    *value = (((counted + read) / 20. * 255.) as f32).clamp(0., 255.);
                }
            }
            Self::Invert => pixels.iter_mut().for_each(|v| *v = 255. - *v),
            Self::Sparse => {
                let mut sorted = pixels.clone();
                sorted.sort_by(f32::total_cmp);
                let background = sorted[sorted.len() / 20];
                out_size = (3 * height, 3 * width);
                let mut field = vec![0f32; 9 * height * width];
                for value in &mut field {
                    *value = background + rng.random_range(-2.0..2.0f32);
                }
                for row in 0..height {
                    let to = (height + row) * 3 * width + width;
                    field[to..to + width].copy_from_slice(&pixels[row * width..][..width]);
                }
                pixels = field;
            }
            Self::SecondChannel => {
                let mut second = pixels.clone();
                blur(&mut second, size, 4.);
                second.rotate_right((3 * width + 3) % (height * width));
                for value in &mut second {
                    *value = 0.2 * *value + rng.random_range(-6.0..6.0f32);
                }
                pixels.extend(second);
                channels = 2;
            }
            Self::Drift => {
                let gain = 0.3 + 0.7 * position as f32;
                let noise = rng.random_range(2.0..8.0f32);
                for value in &mut pixels {
                    *value = (*value * gain
                        + 60. * (1. - position as f32)
                        + rng.random_range(-noise..noise))
                    .clamp(0., 255.);
                }
            }
        }
        let pixels = Array3::from_shape_vec((channels, out_size.0, out_size.1), pixels)
            .map_err(|e| crate::error::Error::Image(e.to_string()))?;
        Image::new(pixels, PixelType::Float)
    }

    /// How labels go along: only [`Degradation::Sparse`] changes the size of the field.
    pub fn pads(self) -> bool {
        self == Self::Sparse
    }
}

/// 0.5th and 99.8th percentile, or the extremes and one more where they coincide.
fn percentiles(values: impl Iterator<Item = f32>) -> (f32, f32) {
    let mut sorted: Vec<f32> = values.collect();
    sorted.sort_by(f32::total_cmp);
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
    let (low, high) = (at(0.005), at(0.998));
    if high > low {
        (low, high)
    } else {
        (low, low + 1.)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Degradation; 7] = [
        Degradation::LowContrast,
        Degradation::Defocus,
        Degradation::Noise,
        Degradation::Invert,
        Degradation::Sparse,
        Degradation::SecondChannel,
        Degradation::Drift,
    ];

    fn spots() -> Image {
        let pixels = Array3::from_shape_fn((1, 40, 48), |(_, y, x)| {
            let d = (y as f32 % 20. - 10.).powi(2) + (x as f32 % 16. - 8.).powi(2);
            10. + 1000. * (-d / 12.).exp()
        });
        Image::new(pixels, PixelType::U16).unwrap()
    }

    fn spread(image: &Image) -> f32 {
        let plane = image.pixels().index_axis(Axis(0), 0).to_owned();
        plane.std(0.)
    }

    #[test]
    fn each_changes_the_image_and_repeats_with_its_seed() {
        for degradation in ALL {
            let once = degradation.apply(&spots(), 3, 0.2).unwrap();
            assert_eq!(once, degradation.apply(&spots(), 3, 0.2).unwrap());
            assert!(
                once.pixels().iter().all(|v| v.is_finite()),
                "{degradation:?}"
            );
            let expected = if degradation.pads() {
                (120, 144)
            } else {
                (40, 48)
            };
            assert_eq!(once.size(), expected, "{degradation:?}");
        }
    }

    #[test]
    fn contrast_noise_and_sign_move_as_named() {
        let apply = |d: Degradation| d.apply(&spots(), 1, 0.5).unwrap();
        let plain = spread(&Degradation::SecondChannel.apply(&spots(), 1, 0.5).unwrap());
        assert!(spread(&apply(Degradation::LowContrast)) < 0.2 * plain);
        assert!(spread(&apply(Degradation::Defocus)) < 0.9 * plain);
        let centre = |image: &Image| image.pixels()[[0, 10, 8]];
        assert!(centre(&apply(Degradation::Invert)) < 60.);
        assert_eq!(apply(Degradation::SecondChannel).channels(), 2);
    }
}
