//! Strong augmentation for the student: appearance only, so that labels need no warp.

use candle_core::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How strongly the student's crops are degraded (paper, section 2.1: "intensity adjustments, contrast
/// changes, blurring and Gaussian noise"). Each number is the end of a range that is drawn from evenly,
/// per crop; units are those of normalised images, where 0 and 1 are low and high percentiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Perturb {
    /// Off for the paper's ablation.
    pub enabled: bool,
    /// Contrast about the mean is multiplied by `1 - c` to `1 + c`.
    pub contrast: f64,
    /// Intensity is multiplied by `1 - g` to `1 + g`.
    pub gain: f64,
    /// Intensity is shifted by `-o` to `o`.
    pub offset: f64,
    /// Standard deviation of the Gaussian blur, 0.1 up to this, in pixels of the working scale.
    pub blur: f64,
    /// Standard deviation of the Gaussian noise, 0 up to this.
    pub noise: f64,
    /// Whether `offset` and `noise` are in units of the crop's own contrast, four standard deviations of its pixels
    /// (about 1 where cells fill the range), instead of the image's range: a crop that uses little of the range
    /// then suffers less.
    pub relative: bool,
}

/// Standard deviations of a crop's pixels that make a unit where strengths are relative.
const CONTRAST: f64 = 4.;

impl Default for Perturb {
    fn default() -> Self {
        Self {
            enabled: true,
            contrast: 0.4,
            gain: 0.3,
            offset: 0.2,
            blur: 1.6,
            noise: 0.15,
            relative: false,
        }
    }
}

/// What one crop suffers.
struct Draw {
    contrast: f32,
    gain: f32,
    offset: f32,
    sigma: f64,
    noise: f32,
    relative: bool,
}

impl Perturb {
    /// Checks the ranges.
    ///
    /// # Errors
    /// If a strength is negative or not finite, or a factor could reach zero.
    pub fn check(&self) -> Result<()> {
        for (name, value, below) in [
            ("contrast", self.contrast, 1.),
            ("gain", self.gain, 1.),
            ("offset", self.offset, f64::INFINITY),
            ("blur", self.blur, 64.),
            ("noise", self.noise, f64::INFINITY),
        ] {
            if !(value >= 0. && value < below) {
                return Err(Error::Setting(format!(
                    "perturb.{name}: expected at least 0 and below {below}, found {value}"
                )));
            }
        }
        Ok(())
    }

    /// Degrades crops `[B, C, H, W]`, each by its own draw from `rng`.
    ///
    /// A channel that is constant is absent from the image (Cellpose's empty second channel) and stays so.
    ///
    /// # Errors
    /// If the tensor is not a batch of 32-bit crops.
    pub fn apply(&self, images: &Tensor, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        if !self.enabled {
            return Ok(images.clone());
        }
        let (batch, channels, height, width) = images.dims4()?;
        let mut pixels = images.flatten_all()?.to_vec1::<f32>()?;
        let crop = channels * height * width;
        if crop == 0 {
            return Ok(images.clone());
        }
        // One seed a crop keeps the result the same on any number of threads.
        let seeds: Vec<u64> = (0..batch).map(|_| rng.random()).collect();
        pixels
            .par_chunks_mut(crop)
            .zip(seeds)
            .for_each(|(pixels, seed)| {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let draw = self.draw(&mut rng);
                for plane in pixels.chunks_mut(height * width) {
                    degrade(plane, (height, width), &draw, &mut rng);
                }
            });
        Ok(Tensor::from_vec(pixels, images.shape(), images.device())?)
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Draw {
        let mut between = |low: f64, high: f64| low + (high - low) * rng.random::<f64>();
        Draw {
            contrast: between(1. - self.contrast, 1. + self.contrast) as f32,
            gain: between(1. - self.gain, 1. + self.gain) as f32,
            offset: between(-self.offset, self.offset) as f32,
            sigma: between(self.blur.min(0.1), self.blur),
            noise: between(0., self.noise) as f32,
            relative: self.relative,
        }
    }
}

/// Contrast, intensity, blur and noise on one channel of one crop.
fn degrade(plane: &mut [f32], (height, width): (usize, usize), draw: &Draw, rng: &mut ChaCha8Rng) {
    let first = plane[0];
    if plane.iter().all(|&v| v == first) {
        return;
    }
    let mean = (plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64) as f32;
    let unit = if draw.relative {
        let squares = plane.iter().map(|&v| f64::from(v - mean).powi(2));
        (CONTRAST * (squares.sum::<f64>() / plane.len() as f64).sqrt()) as f32
    } else {
        1.
    };
    for value in plane.iter_mut() {
        *value = ((*value - mean) * draw.contrast + mean) * draw.gain + draw.offset * unit;
    }
    blur(plane, (height, width), draw.sigma);
    if draw.noise > 0. {
        for value in plane.iter_mut() {
            let normal: f32 = StandardNormal.sample(rng);
            *value += draw.noise * unit * normal;
        }
    }
}

/// Separable Gaussian blur cut off at three standard deviations, reflecting about the edge pixels.
pub fn blur(plane: &mut [f32], (height, width): (usize, usize), sigma: f64) {
    let radius = (3. * sigma + 0.5) as usize;
    if sigma <= 0. || radius == 0 {
        return;
    }
    let mut weights: Vec<f32> = (0..=2 * radius)
        .map(|i| {
            let d = i as f64 - radius as f64;
            (-d * d / (2. * sigma * sigma)).exp() as f32
        })
        .collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|w| *w /= sum);

    // Along columns first: whole rows are added, which the compiler turns into vector code.
    let mut smoothed = vec![0f32; plane.len()];
    for row in 0..height {
        let target = &mut smoothed[row * width..][..width];
        for (i, &weight) in weights.iter().enumerate() {
            let source = reflect(row as isize + i as isize - radius as isize, height);
            let source = &plane[source * width..][..width];
            target
                .iter_mut()
                .zip(source)
                .for_each(|(t, s)| *t += weight * s);
        }
    }
    let mut padded = vec![0f32; width + 2 * radius];
    for row in 0..height {
        let source = &smoothed[row * width..][..width];
        for (i, value) in padded.iter_mut().enumerate() {
            *value = source[reflect(i as isize - radius as isize, width)];
        }
        let target = &mut plane[row * width..][..width];
        target.fill(0.);
        for (i, &weight) in weights.iter().enumerate() {
            target
                .iter_mut()
                .zip(&padded[i..])
                .for_each(|(t, s)| *t += weight * s);
        }
    }
}

/// The index inside `0..size` that `index` mirrors to, edge pixels not repeated.
pub(crate) fn reflect(index: isize, size: usize) -> usize {
    let size = size as isize;
    if size <= 1 {
        return 0;
    }
    let period = 2 * (size - 1);
    let inside = index.rem_euclid(period);
    (if inside < size {
        inside
    } else {
        period - inside
    }) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn crops() -> Tensor {
        let values: Vec<f32> = (0..2 * 2 * 20 * 24)
            .map(|i| {
                if (i / 480) % 2 == 1 {
                    0.
                } else {
                    (i as f32 * 0.37).sin()
                }
            })
            .collect();
        Tensor::from_vec(values, (2, 2, 20, 24), &Device::Cpu).unwrap()
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn run(perturb: Perturb, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        numbers(&perturb.apply(&crops(), &mut rng).unwrap())
    }

    #[test]
    fn the_same_seed_gives_the_same_crops_and_another_others() {
        assert_eq!(run(Perturb::default(), 1), run(Perturb::default(), 1));
        assert_ne!(run(Perturb::default(), 1), run(Perturb::default(), 2));
    }

    #[test]
    fn an_absent_channel_stays_absent() {
        let out = run(Perturb::default(), 3);
        assert!(out[480..960].iter().all(|&v| v == 0.));
        assert!(
            out[..480]
                .iter()
                .zip(&numbers(&crops())[..480])
                .any(|(a, b)| a != b)
        );
    }

    #[test]
    fn nothing_happens_at_zero_strength() {
        let still = Perturb {
            enabled: true,
            contrast: 0.,
            gain: 0.,
            offset: 0.,
            blur: 0.,
            noise: 0.,
            relative: false,
        };
        let out = run(still, 1);
        let before = numbers(&crops());
        assert!(out.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_eq!(
            run(
                Perturb {
                    enabled: false,
                    ..Perturb::default()
                },
                1
            ),
            before
        );
    }

    #[test]
    fn relative_strengths_follow_the_contrast_of_the_crop() {
        let relative = Perturb {
            contrast: 0.,
            gain: 0.,
            blur: 0.,
            relative: true,
            ..Perturb::default()
        };
        let moved = |scale: f64| -> Vec<f32> {
            let images = (crops() * scale).unwrap();
            let mut rng = ChaCha8Rng::seed_from_u64(4);
            let out = relative.apply(&images, &mut rng).unwrap();
            numbers(&(out - images).unwrap())
        };
        let (full, tenth) = (moved(1.), moved(0.1));
        assert!(full.iter().any(|v| v.abs() > 0.05));
        assert!(
            full.iter()
                .zip(&tenth)
                .all(|(a, b)| (a * 0.1 - b).abs() < 1e-5)
        );
    }

    #[test]
    fn blur_keeps_a_constant_and_spreads_a_point_evenly() {
        let mut flat = vec![2f32; 15 * 9];
        blur(&mut flat, (15, 9), 1.3);
        assert!(flat.iter().all(|v| (v - 2.).abs() < 1e-5));
        let mut point = vec![0f32; 21 * 21];
        point[10 * 21 + 10] = 1.;
        blur(&mut point, (21, 21), 1.5);
        let variance: f64 = point
            .iter()
            .enumerate()
            .map(|(i, &v)| ((i / 21) as f64 - 10.).powi(2) * f64::from(v))
            .sum();
        assert!((variance / 2.25 - 1.).abs() < 0.06, "{variance}");
        assert!((point.iter().sum::<f32>() - 1.).abs() < 1e-5);
        assert!((point[10 * 21 + 12] - point[12 * 21 + 10]).abs() < 1e-7);
    }

    #[test]
    fn reflection_does_not_repeat_the_edge() {
        let mirrored: Vec<usize> = (-3..7).map(|i| reflect(i, 4)).collect();
        assert_eq!(mirrored, [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]);
        assert_eq!(reflect(-5, 1), 0);
    }

    #[test]
    fn impossible_strengths_are_refused() {
        assert!(
            Perturb {
                gain: 1.5,
                ..Perturb::default()
            }
            .check()
            .is_err()
        );
        assert!(
            Perturb {
                noise: f64::NAN,
                ..Perturb::default()
            }
            .check()
            .is_err()
        );
        assert!(Perturb::default().check().is_ok());
    }
}
