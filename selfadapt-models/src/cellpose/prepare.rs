//! From a file's channels to the network's input: choose, normalise, resize, as Cellpose 3 does.

use candle_core::{Device, Tensor};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::normalise::{percentile, stretch};
use selfadapt_core::resize::bilinear;

use super::CellposeConfig;

/// Numbers in a prepared image beyond which it is refused rather than left to exhaust the memory.
const MOST_VALUES: f64 = 4e9;

/// Pixels beyond which percentiles are read from a sample (`normalize99(downsample=True)`).
const SAMPLED_ABOVE: usize = 224 * 224 * 224;

/// The input `[C, H', W']` of the network, H' = int(H * scale) and at least 1.
///
/// # Errors
/// If the image lacks a channel, holds a number that is not finite, or would become too large.
pub fn prepare(config: &CellposeConfig, image: &Image, scale: f64) -> Result<Tensor> {
    config.check()?;
    let inputs = config.nbase[0];
    let size = scaled_size(image.size(), scale, inputs)?;
    let mut prepared = Array3::zeros((inputs, size.0, size.1));
    let chosen = choose(config.channels, image.pixels())?;
    for (mut input, channel) in prepared.outer_iter_mut().zip(chosen) {
        let normalised = normalise(channel, config)?;
        input.assign(&bilinear(normalised.view(), size));
    }
    let (pixels, _) = prepared.into_raw_vec_and_offset();
    Ok(Tensor::from_vec(
        pixels,
        (inputs, size.0, size.1),
        &Device::Cpu,
    )?)
}

/// The size of the working image, rounded down as Cellpose rounds.
fn scaled_size(
    (height, width): (usize, usize),
    scale: f64,
    channels: usize,
) -> Result<(usize, usize)> {
    let (tall, wide) = scaled((height, width), scale)?;
    if tall as f64 * wide as f64 * channels as f64 > MOST_VALUES {
        return Err(Error::Image(format!(
            "{height} x {width} pixels at scale {scale:.3} become {tall} x {wide}, more than \
             {MOST_VALUES:.0e} numbers; crop the image, or give a larger diameter"
        )));
    }
    Ok((tall, wide))
}

/// As [`scaled_size`], for an image of any size.
pub(super) fn scaled((height, width): (usize, usize), scale: f64) -> Result<(usize, usize)> {
    if !(scale.is_finite() && scale > 0.) {
        return Err(Error::Setting(format!(
            "scale: expected a positive number of working pixels per pixel, found {scale}"
        )));
    }
    let scaled = |length: usize| (length as f64 * scale).floor().max(1.) as usize;
    Ok((scaled(height), scaled(width)))
}

/// Chooses the channels to segment (`reshape`): one map, or two where a second channel is asked for.
pub(super) fn choose(channels: [usize; 2], pixels: ArrayView3<f32>) -> Result<Vec<Array2<f32>>> {
    let found = pixels.len_of(Axis(0));
    let [first, second] = channels;
    if first == 0 {
        // As in Cellpose, a second channel means nothing beside the mean of all.
        let mut mean = pixels.sum_axis(Axis(0));
        mean.mapv_inplace(|sum| sum / found as f32);
        return Ok(vec![mean]);
    }
    if let Some(missing) = channels.into_iter().find(|&channel| channel > found) {
        return Err(Error::Image(format!(
            "channel {missing} was asked for, the image has {found}; \
             0 takes the mean of all channels, 1 the first"
        )));
    }
    let take = |channel: usize| pixels.index_axis(Axis(0), channel - 1).to_owned();
    Ok(if second == 0 {
        vec![take(first)]
    } else {
        vec![take(first), take(second)]
    })
}

/// Stretches a channel between its percentiles (`normalize_img`, `normalize99`).
///
/// A channel of a single value is left as it is, and one with hardly any range becomes zero: as in Cellpose.
fn normalise(mut channel: Array2<f32>, config: &CellposeConfig) -> Result<Array2<f32>> {
    let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
    for ((y, x), &value) in channel.indexed_iter() {
        if !value.is_finite() {
            return Err(Error::Image(format!(
                "expected finite numbers, found {value} at row {y}, column {x}"
            )));
        }
        (least, most) = (least.min(value), most.max(value));
    }
    if most - least <= 0. {
        return Ok(channel);
    }
    let mut sample = sampled(channel.view());
    let [low, high] = config
        .percentiles
        .map(|percent| percentile(&mut sample, percent));
    if high - low > 1e-3 {
        if let Some(values) = channel.as_slice_mut() {
            stretch(values, low, high);
        }
    } else {
        channel.fill(0.);
    }
    if config.invert {
        channel.mapv_inplace(|value| 1. - value);
    }
    Ok(channel)
}

/// All pixels, or about 224 x 224 on a lattice where there are very many.
fn sampled(channel: ArrayView2<f32>) -> Vec<f32> {
    let (down, across) = lattice(channel.dim());
    let rows = channel.rows().into_iter().step_by(down);
    rows.flat_map(|row| row.into_iter().step_by(across).copied())
        .collect()
}

/// Every how many rows and columns a pixel is sampled.
pub(super) fn lattice((height, width): (usize, usize)) -> (usize, usize) {
    if height * width > SAMPLED_ABOVE {
        ((height / 224).max(1), (width / 224).max(1))
    } else {
        (1, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::image::PixelType;

    /// `((arange(9 * 8 * 3) * 37) % 101).reshape(9, 8, 3)`, channels last.
    fn image() -> Image {
        let value = |(c, y, x)| (((y * 8 + x) * 3 + c) * 37 % 101) as f32;
        Image::new(Array3::from_shape_fn((3, 9, 8), value), PixelType::U8).unwrap()
    }

    /// `convert_image`, `normalize_img` and `resize_image` of Cellpose 3.1.1.
    #[test]
    fn prepared_images_are_those_of_cellpose() {
        let usual = CellposeConfig::default();
        let cases = [
            (
                CellposeConfig {
                    channels: [0, 0],
                    ..usual.clone()
                },
                [
                    [0.157_112_73, 0.536_520_6, 0.236_240_58, 0.287_639_92],
                    [0.; 4],
                ],
                [76.583_82, 0.],
            ),
            (
                CellposeConfig {
                    channels: [3, 1],
                    ..usual.clone()
                },
                [
                    [0.743_457_1, 0.495_318_1, 0.773_889_24, 0.452_140_93],
                    [-0.021_922_6, 0.765_834_33, 0.008_954_303, 0.722_026_1],
                ],
                [78.159_183, 77.792_268],
            ),
            (
                CellposeConfig {
                    channels: [2, 0],
                    invert: true,
                    percentiles: [5., 80.],
                    ..usual
                },
                [
                    [0.543_344_74, 0.665_161_43, 0.502_389_1, 0.935_398_5],
                    [0.; 4],
                ],
                [60.725_547, 0.],
            ),
        ];
        for (config, expected, sums) in cases {
            let prepared = prepare(&config, &image(), 1.5)
                .unwrap()
                .to_vec3::<f32>()
                .unwrap();
            assert_eq!((prepared[0].len(), prepared[0][0].len()), (13, 12));
            for (channel, (expected, sum)) in prepared.iter().zip(expected.into_iter().zip(sums)) {
                for ((y, x), expected) in
                    [(0, 0), (5, 7), (12, 11), (3, 2)].into_iter().zip(expected)
                {
                    assert!(
                        (channel[y][x] - expected).abs() < 1e-6,
                        "{:?} {y} {x}",
                        config.channels
                    );
                }
                let found: f64 = channel.iter().flatten().map(|&v| f64::from(v)).sum();
                assert!((found - sum).abs() < 1e-4, "{:?}: {found}", config.channels);
            }
        }
    }

    #[test]
    fn channels_without_range_are_left_or_emptied_as_in_cellpose() {
        let value = |(c, y, x)| {
            if c == 0 {
                5.
            } else {
                1e-6 * (y * 8 + x) as f32
            }
        };
        let image = Image::new(Array3::from_shape_fn((2, 9, 8), value), PixelType::Float).unwrap();
        let config = CellposeConfig {
            channels: [1, 2],
            ..CellposeConfig::default()
        };
        let prepared = prepare(&config, &image, 1.)
            .unwrap()
            .to_vec3::<f32>()
            .unwrap();
        assert!(prepared[0].iter().flatten().all(|&v| v == 5.));
        assert!(prepared[1].iter().flatten().all(|&v| v == 0.));
    }

    #[test]
    fn images_that_cannot_be_prepared_are_refused() {
        let usual = CellposeConfig::default();
        let say = |config: &CellposeConfig, image: &Image, scale| {
            prepare(config, image, scale).unwrap_err().to_string()
        };
        let four = CellposeConfig {
            channels: [4, 0],
            ..usual.clone()
        };
        assert!(say(&four, &image(), 1.).contains("channel 4 was asked for, the image has 3"));
        let wide = Image::new(Array3::zeros((1, 500, 40_000)), PixelType::U8).unwrap();
        assert!(say(&usual, &wide, 15.).contains("larger diameter"));
        assert!(say(&usual, &image(), f64::NAN).contains("scale"));
        let mut pixels = Array3::zeros((1, 3, 3));
        pixels[[0, 1, 2]] = f32::NAN;
        let holed = Image::new(pixels, PixelType::Float).unwrap();
        assert!(say(&usual, &holed, 1.).contains("NaN at row 1, column 2"));
        // A single pixel never vanishes.
        let dot = Image::new(Array3::zeros((1, 1, 1)), PixelType::U8).unwrap();
        assert_eq!(prepare(&usual, &dot, 0.3).unwrap().dims(), [2, 1, 1]);
    }
}
