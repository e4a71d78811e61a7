//! From a file's channels to the network's input: choose, normalise, scale, and pad to what the network divides by.

use std::ops::Range;

use candle_core::{Device, Tensor};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3, Axis};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::normalise::percentile;

use super::StarDistConfig;

/// Numbers in a prepared image beyond which it is refused rather than left to exhaust the memory.
const MOST_VALUES: f64 = 4e9;

/// The input `[C, H', W']` of the network: H' is `round(H * scale)`, mirrored at its end up to the next multiple
/// of the divisor, as the package does.
///
/// # Errors
/// If the image has other channels than the network, holds a number that is not finite, has no contrast between
/// its percentiles and is not constant, or would become too large.
pub fn prepare(config: &StarDistConfig, image: &Image, scale: f64) -> Result<Tensor> {
    config.check()?;
    let mut pixels = choose(config, image.pixels())?;
    normalise(config, &mut pixels)?;
    let (height, width) = scaled_size(image.size(), scale, config)?;
    let (channels, divisor) = (config.n_channel_in, config.divisor());
    let padded = (
        height.next_multiple_of(divisor),
        width.next_multiple_of(divisor),
    );
    let mut prepared = Array3::zeros((channels, padded.0, padded.1));
    for (mut to, from) in prepared.outer_iter_mut().zip(pixels.outer_iter()) {
        let scaled = if (height, width) == image.size() {
            from.to_owned()
        } else {
            zoom(from, (height, width))
        };
        for ((y, x), value) in to.indexed_iter_mut() {
            *value = scaled[[mirrored(y, height), mirrored(x, width)]];
        }
    }
    let (pixels, _) = prepared.into_raw_vec_and_offset();
    let shape = (channels, padded.0, padded.1);
    Ok(Tensor::from_vec(pixels, shape, &Device::Cpu)?)
}

/// The channels for the network.
pub(super) fn choose(config: &StarDistConfig, pixels: ArrayView3<f32>) -> Result<Array3<f32>> {
    let found = pixels.len_of(Axis(0));
    if config.channels.is_empty() {
        if found == config.n_channel_in {
            return Ok(pixels.to_owned());
        }
        let ones = vec!["1"; config.n_channel_in].join(",");
        return Err(Error::Image(format!(
            "the model takes {} channels, the image has {found}: say which ones with channels, for example {ones}",
            config.n_channel_in
        )));
    }
    if let Some(missing) = config.channels.iter().find(|&&channel| channel > found) {
        return Err(Error::Image(format!(
            "channel {missing} was asked for, the image has {found}; 1 is the first"
        )));
    }
    let places: Vec<usize> = config.channels.iter().map(|channel| channel - 1).collect();
    Ok(pixels.select(Axis(0), &places))
}

/// `csbdeep.utils.normalize`: percentiles become 0 and 1, and nothing is cut off.
fn normalise(config: &StarDistConfig, pixels: &mut Array3<f32>) -> Result<()> {
    check_finite(pixels.view(), 0)?;
    if config.normalise_jointly {
        let all = pixels.as_slice_mut();
        return all.map_or(Ok(()), |all| stretch(config, all));
    }
    for mut channel in pixels.outer_iter_mut() {
        if let Some(values) = channel.as_slice_mut() {
            stretch(config, values)?;
        }
    }
    Ok(())
}

/// Refuses numbers that are not finite; the first row is row `top` of the image.
pub(super) fn check_finite(pixels: ArrayView3<f32>, top: usize) -> Result<()> {
    match pixels.indexed_iter().find(|(_, value)| !value.is_finite()) {
        None => Ok(()),
        Some(((channel, y, x), value)) => Err(Error::Image(format!(
            "expected finite numbers, found {value} in channel {}, row {}, column {x}",
            channel + 1,
            top + y
        ))),
    }
}

fn stretch(config: &StarDistConfig, values: &mut [f32]) -> Result<()> {
    let mut sample = values.to_vec();
    let limits = config
        .percentiles
        .map(|percent| percentile(&mut sample, percent));
    let constant = values.iter().all(|&value| value == values[0]);
    Stretch::between(config, limits, constant)?.apply(values);
    Ok(())
}

/// What normalising does to a channel, or to all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    low: f32,
    range: f32,
}

impl Stretch {
    /// From one percentile to the other.
    ///
    /// # Errors
    /// If they are the same, and the image is not constant.
    pub fn between(config: &StarDistConfig, [low, high]: [f32; 2], constant: bool) -> Result<Self> {
        let range = high - low;
        if range > 0. || constant {
            return Ok(Self { low, range });
        }
        let [first, second] = config.percentiles;
        Err(Error::Image(format!(
            "percentiles {first} and {second} are both {low}, so there is nothing to normalise by; \
             set other percentiles, such as [0, 100]"
        )))
    }

    pub fn apply(self, values: &mut [f32]) {
        for value in values {
            // A constant image is 0: 0 / 1e-20 in the original.
            *value = (*value - self.low) / (self.range + 1e-20);
        }
    }
}

/// The size of the working image, rounded as Python rounds.
pub(super) fn scaled_size(
    (height, width): (usize, usize),
    scale: f64,
    config: &StarDistConfig,
) -> Result<(usize, usize)> {
    if !(scale.is_finite() && scale > 0.) {
        return Err(Error::Setting(format!(
            "scale: expected a positive number, found {scale}"
        )));
    }
    let scaled = |length: usize| (length as f64 * scale).round_ties_even().max(1.);
    let (tall, wide) = (scaled(height), scaled(width));
    if tall * wide * config.n_channel_in as f64 > MOST_VALUES {
        return Err(Error::Image(format!(
            "{height} x {width} pixels at scale {scale:.3} become {tall:.0} x {wide:.0}, more than \
             {MOST_VALUES:.0e} numbers; crop the image, or set a smaller scale"
        )));
    }
    Ok((tall as usize, wide as usize))
}

/// `scipy.ndimage.zoom(order=1)`: linear between pixels, first and last pixels staying where they are.
fn zoom(image: ArrayView2<f32>, (height, width): (usize, usize)) -> Array2<f32> {
    let rows = taps(image.nrows(), height, 0..height);
    zoomed(image, &rows, &taps(image.ncols(), width, 0..width))
}

/// The pixels `wanted` of an axis of `from` pixels that is resized to `to`: between which two each lies, and how far from
/// the first.
pub(super) fn taps(from: usize, to: usize, wanted: Range<usize>) -> Vec<(usize, usize, f64)> {
    let step = if to > 1 {
        (from - 1) as f64 / (to - 1) as f64
    } else {
        0.
    };
    let tap = |i: usize| {
        let at = (i as f64 * step).min((from - 1) as f64);
        let below = at.floor();
        let first = below as usize;
        (first, (first + 1).min(from - 1), at - below)
    };
    wanted.map(tap).collect()
}

/// Pixels by the taps of their rows and columns.
pub(super) fn zoomed(
    image: ArrayView2<f32>,
    rows: &[(usize, usize, f64)],
    columns: &[(usize, usize, f64)],
) -> Array2<f32> {
    Array2::from_shape_fn((rows.len(), columns.len()), |(y, x)| {
        let ((top, bottom, down), (left, right, across)) = (rows[y], columns[x]);
        let at = |y: usize, x: usize| f64::from(image[[y, x]]);
        let upper = at(top, left) * (1. - across) + at(top, right) * across;
        let lower = at(bottom, left) * (1. - across) + at(bottom, right) * across;
        (upper * (1. - down) + lower * down) as f32
    })
}

/// The pixel that mirroring at the end, without repeating it, brings to `at` (`numpy.pad(mode="reflect")`).
pub(super) fn mirrored(at: usize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length - 1);
    let inside = at % period;
    inside.min(period - inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::image::PixelType;

    fn image(channels: usize) -> Image {
        let value = |(c, y, x)| (((y * 5 + x) * 3 + c) * 37 % 101) as f32;
        Image::new(
            Array3::from_shape_fn((channels, 4, 5), value),
            PixelType::U8,
        )
        .unwrap()
    }

    /// `numpy.pad(normalize(image, 1, 99.8), ..., mode="reflect")` of csbdeep 0.8.1.
    #[test]
    fn prepared_images_are_those_of_csbdeep() {
        let config = StarDistConfig::default();
        let prepared = prepare(&config, &image(1), 1.).unwrap();
        assert_eq!(prepared.dims(), [1, 16, 16]);
        let rows = prepared.get(0).unwrap().to_vec2::<f32>().unwrap();
        for ((y, x), expected) in EXPECTED {
            assert!(
                (rows[y][x] - expected).abs() < 1e-6,
                "{y} {x}: {}",
                rows[y][x]
            );
        }
        // Four rows: 0 1 2 3 2 1 0 1 ...; five columns: 0 1 2 3 4 3 2 1 0 ...
        assert_eq!(rows[4][5], rows[2][3]);
        assert_eq!(rows[7][9], rows[1][1]);
        assert_eq!(rows[15][15], rows[3][1]);
    }

    const EXPECTED: [((usize, usize), f32); 4] = [
        ((0, 0), -0.017_465_018),
        ((0, 1), 0.084_669_59),
        ((2, 3), 0.278_725_36),
        ((3, 4), 0.891_533),
    ];

    #[test]
    fn channels_must_be_those_of_the_network_or_chosen() {
        let one = StarDistConfig::default();
        let three = StarDistConfig {
            n_channel_in: 3,
            ..one.clone()
        };
        let say = |config: &StarDistConfig, channels| {
            prepare(config, &image(channels), 1.)
                .unwrap_err()
                .to_string()
        };
        assert!(say(&one, 3).contains("takes 1 channels, the image has 3"));
        assert!(say(&three, 1).contains("for example 1,1,1"));
        let second = StarDistConfig {
            channels: vec![2],
            ..one.clone()
        };
        assert!(say(&second, 1).contains("channel 2 was asked for, the image has 1"));
        assert_eq!(prepare(&second, &image(2), 1.).unwrap().dims()[0], 1);
        let wrong = StarDistConfig {
            channels: vec![1, 2],
            ..one
        };
        assert!(say(&wrong, 2).contains("channels: expected 1 numbers"));
        let gray = StarDistConfig {
            channels: vec![1; 3],
            ..three.clone()
        };
        assert_eq!(prepare(&gray, &image(1), 1.).unwrap().dims()[0], 3);
        // Of each channel by itself the least is below 0 and the largest about 1.
        let apart = StarDistConfig {
            normalise_jointly: false,
            percentiles: [0., 100.],
            ..three
        };
        for channel in prepare(&apart, &image(3), 1.)
            .unwrap()
            .to_vec3::<f32>()
            .unwrap()
        {
            let most = channel.iter().flatten().fold(0f32, |a, &b| a.max(b));
            assert!((most - 1.).abs() < 1e-6);
        }
    }

    #[test]
    fn images_without_contrast_are_zero_or_refused() {
        let config = StarDistConfig::default();
        let flat = Image::new(Array3::from_elem((1, 8, 8), 7.), PixelType::U8).unwrap();
        let prepared = prepare(&config, &flat, 1.).unwrap();
        assert_eq!(
            prepared
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap(),
            0.
        );
        let mut pixels = Array3::zeros((1, 40, 40));
        pixels[[0, 1, 2]] = 9.;
        let sparse = Image::new(pixels.clone(), PixelType::U8).unwrap();
        let error = prepare(&config, &sparse, 1.).unwrap_err().to_string();
        assert!(error.contains("set other percentiles"), "{error}");
        pixels[[0, 1, 2]] = f32::INFINITY;
        let infinite = Image::new(pixels, PixelType::Float).unwrap();
        let error = prepare(&config, &infinite, 1.).unwrap_err().to_string();
        assert!(
            error.contains("inf in channel 1, row 1, column 2"),
            "{error}"
        );
    }

    /// `scipy.ndimage.zoom(numpy.arange(12.).reshape(3, 4), 2, order=1)`.
    #[test]
    fn zooming_is_that_of_scipy() {
        let ramp = Array2::from_shape_fn((3, 4), |(y, x)| (4 * y + x) as f32);
        let zoomed = zoom(ramp.view(), (6, 8));
        assert!((zoomed[[1, 1]] - (1.6 + 3. / 7.)).abs() < 1e-6);
        assert_eq!((zoomed[[0, 0]], zoomed[[5, 7]]), (0., 11.));
        assert_eq!(zoom(ramp.view(), (1, 1))[[0, 0]], 0.);
    }
}
