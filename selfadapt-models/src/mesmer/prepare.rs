//! From a file's channels to the network's input: choose, scale, cut bright pixels off, equalise.

use candle_core::{Device, Tensor};
use ndarray::{ArrayView2, Axis};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::normalise::{percentile, stretch};
use selfadapt_kernels::clahe::clahe;
use selfadapt_kernels::gaussian::{Edge, gaussian};

use super::MesmerConfig;

/// Numbers in a prepared image beyond which it is refused rather than left to exhaust the memory.
const MOST_VALUES: f64 = 4e9;

/// The input `[2, H', W']` of the network, H' being `H * scale` rounded down; values 0 to 1.
///
/// # Errors
/// If the image lacks a channel, holds a number that is not finite, or would become too large or empty.
pub fn prepare(config: &MesmerConfig, image: &Image, scale: f64) -> Result<Tensor> {
    let pixels = image.pixels();
    let found = pixels.len_of(Axis(0));
    if found == 1 && config.channels == [1, 2] {
        return Err(Error::Image(
            "Mesmer takes two channels, nuclear and membrane, and the image has one; join the two images into one \
             of two channels, or set channels to 1,0 to do without a membrane"
                .into(),
        ));
    }
    if let Some(missing) = config.channels.iter().find(|channel| **channel > found) {
        return Err(Error::Image(format!(
            "channel {missing} was asked for, the image has {found}; 1 is the first, and channels names the nuclear \
             and the membrane one"
        )));
    }
    let size = scaled_size(image.size(), scale)?;
    let mut prepared = Vec::with_capacity(2 * size.0 * size.1);
    for channel in config.channels {
        match channel.checked_sub(1) {
            Some(at) => prepared.extend(plane(config, pixels.index_axis(Axis(0), at), size)?),
            None => prepared.resize(prepared.len() + size.0 * size.1, 0.),
        }
    }
    Ok(Tensor::from_vec(
        prepared,
        (2, size.0, size.1),
        &Device::Cpu,
    )?)
}

/// One channel at the working size, normalised (`mesmer_preprocess`).
fn plane(config: &MesmerConfig, pixels: ArrayView2<f32>, size: (usize, usize)) -> Result<Vec<f32>> {
    if let Some(value) = pixels.iter().find(|value| !value.is_finite()) {
        return Err(Error::Image(format!(
            "expected finite numbers, found {value}"
        )));
    }
    let mut values = if size == pixels.dim() {
        pixels.iter().copied().collect()
    } else {
        resized(pixels, size)?
    };
    // `percentile_threshold`
    let mut lit: Vec<f32> = values
        .iter()
        .copied()
        .filter(|value| *value != 0.)
        .collect();
    let most = percentile(&mut lit, config.percentile);
    for value in &mut values {
        // NaN, where all is 0, cuts nothing off.
        if *value > most {
            *value = most;
        }
    }
    // `histogram_normalization`
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if least == most {
        return Ok(vec![0.; values.len()]);
    }
    stretch(&mut values, least, most);
    Ok(clahe(&values, size.0, size.1, config.clahe)?)
}

/// `skimage.transform.resize` with `anti_aliasing=True` and `mode="constant"`: smoothed before it shrinks, zero beyond
/// its edges, and never beyond its own range.
fn resized(pixels: ArrayView2<f32>, (height, width): (usize, usize)) -> Result<Vec<f32>> {
    let (from_height, from_width) = pixels.dim();
    let sigma = |from: usize, to: usize| ((from as f64 / to as f64 - 1.) / 2.).max(0.);
    let sigma = (sigma(from_height, height), sigma(from_width, width));
    let flat: Vec<f32> = pixels.iter().copied().collect();
    let smooth = gaussian(&flat, (from_height, from_width), sigma, Edge::Zero)?;
    let (rows, columns) = (taps(from_height, height), taps(from_width, width));
    let at = |y: isize, x: isize| {
        let inside = |at: isize, length: usize| usize::try_from(at).ok().filter(|&at| at < length);
        match (inside(y, from_height), inside(x, from_width)) {
            (Some(y), Some(x)) => f64::from(smooth[y * from_width + x]),
            _ => 0.,
        }
    };
    let least = flat.iter().copied().fold(f32::INFINITY, f32::min);
    let most = flat.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut values = Vec::with_capacity(height * width);
    for &(y, down) in &rows {
        values.extend(columns.iter().map(|&(x, across)| {
            let upper = at(y, x) * (1. - across) + at(y, x + 1) * across;
            let lower = at(y + 1, x) * (1. - across) + at(y + 1, x + 1) * across;
            ((upper * (1. - down) + lower * down) as f32).clamp(least, most)
        }));
    }
    Ok(values)
}

/// Where the pixels of a resized axis lie: the pixel before, and how far beyond it.
fn taps(from: usize, to: usize) -> Vec<(isize, f64)> {
    let step = from as f64 / to as f64;
    (0..to)
        .map(|at| {
            let position = (at as f64 + 0.5) * step - 0.5;
            (position.floor() as isize, position - position.floor())
        })
        .collect()
}

/// The size of the working image, rounded down as the original does.
fn scaled_size((height, width): (usize, usize), scale: f64) -> Result<(usize, usize)> {
    if !(scale.is_finite() && scale > 0.) {
        return Err(Error::Setting(format!(
            "scale: expected a positive number, found {scale}"
        )));
    }
    let (tall, wide) = (height as f64 * scale, width as f64 * scale);
    if tall * wide * 2. > MOST_VALUES || tall < 1. || wide < 1. {
        return Err(Error::Image(format!(
            "{height} x {width} pixels at scale {scale:.3} become {:.0} x {:.0}, expected at least one pixel and at \
             most {MOST_VALUES:.0e} numbers; is the pixel size right?",
            tall.floor(),
            wide.floor()
        )));
    }
    Ok((tall as usize, wide as usize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array3;
    use selfadapt_core::image::PixelType;

    fn image(channels: usize) -> Image {
        let value = |(c, y, x)| (((y * 9 + x) * 3 + c) * 37 % 101) as f32;
        Image::new(
            Array3::from_shape_fn((channels, 7, 9), value),
            PixelType::U8,
        )
        .unwrap()
    }

    #[test]
    fn channels_must_be_there() {
        let config = MesmerConfig::default();
        let say = |config: &MesmerConfig, channels| {
            prepare(config, &image(channels), 1.)
                .unwrap_err()
                .to_string()
        };
        assert!(say(&config, 1).contains("nuclear and membrane, and the image has one"));
        let third = MesmerConfig {
            channels: [3, 1],
            ..config.clone()
        };
        assert!(say(&third, 2).contains("channel 3 was asked for, the image has 2"));
        let alone = MesmerConfig {
            channels: [1, 0],
            ..config
        };
        let prepared = prepare(&alone, &image(1), 1.).unwrap();
        assert_eq!(prepared.dims(), [2, 7, 9]);
        let membrane = prepared.get(1).unwrap().abs().unwrap().sum_all().unwrap();
        assert_eq!(membrane.to_scalar::<f32>().unwrap(), 0.);
    }

    #[test]
    fn sizes_are_rounded_down_and_bounded() {
        let config = MesmerConfig::default();
        let size = |scale| prepare(&config, &image(2), scale).map(|t| t.dims().to_vec());
        assert_eq!(size(0.5).unwrap(), [2, 3, 4]);
        assert_eq!(size(1.5).unwrap(), [2, 10, 13]);
        for scale in [0.1, 1e6, 0., f64::NAN] {
            assert!(size(scale).is_err(), "{scale}");
        }
    }

    #[test]
    fn values_span_zero_to_one_and_constants_are_zero() {
        let prepared = prepare(&MesmerConfig::default(), &image(2), 1.).unwrap();
        let values = prepared.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let least = values.iter().copied().fold(1., f32::min);
        assert_eq!((least, values.iter().copied().fold(0., f32::max)), (0., 1.));
        let flat = Image::new(Array3::from_elem((2, 8, 8), 7.), PixelType::U8).unwrap();
        let prepared = prepare(&MesmerConfig::default(), &flat, 1.).unwrap();
        assert_eq!(prepared.sum_all().unwrap().to_scalar::<f32>().unwrap(), 0.);
    }

    /// `skimage.transform.resize(image, shape, mode="constant", preserve_range=True, order=1, anti_aliasing=True)` of
    /// scikit-image 0.26.0 on `numpy.float32((numpy.arange(63).reshape(7, 9) * 111 % 101))`.
    #[test]
    fn resized_images_are_those_of_scikit_image() {
        let pixels = image(1);
        let pixels = pixels.pixels();
        let pixels = pixels.index_axis(Axis(0), 0);
        for (size, expected) in [((3, 4), &SMALLER[..]), ((9, 11), &LARGER[..])] {
            let found = resized(pixels, size).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{size:?}: {found} {expected}"
                );
            }
        }
    }

    const SMALLER: [f32; 12] = [
        49.81136, 23.61805, 39.44854, 55.02324, 70.0601, 71.92416, 22.0687, 36.72989, 44.25648,
        67.22408, 63.52378, 17.10715,
    ];
    /// The first two rows.
    const LARGER: [f32; 22] = [
        0.00000, 6.46465, 13.73737, 21.0101, 28.28283, 35.55556, 42.82828, 50.10101, 57.37374,
        64.64646, 64.64646, 54.54546, 67.27273, 38.72727, 16.30303, 24.48485, 32.66667, 40.84848,
        49.0303, 57.21212, 65.39394, 66.06061,
    ];
}
