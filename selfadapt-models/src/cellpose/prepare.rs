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
    if !(scale.is_finite() && scale > 0.) {
        return Err(Error::Setting(format!(
            "scale: expected a positive number of working pixels per pixel, found {scale}"
        )));
    }
    let scaled = |length: usize| (length as f64 * scale).floor().max(1.);
    let (tall, wide) = (scaled(height), scaled(width));
    let values = tall * wide * channels as f64;
    if values > MOST_VALUES {
        return Err(Error::Image(format!(
            "{height} x {width} pixels at scale {scale:.3} become {tall:.0} x {wide:.0}, more than \
             {MOST_VALUES:.0e} numbers; crop the image, or give a larger diameter"
        )));
    }
    Ok((tall as usize, wide as usize))
}

/// Chooses the channels to segment (`reshape`): one map, or two where a second channel is asked for.
fn choose(channels: [usize; 2], pixels: ArrayView3<f32>) -> Result<Vec<Array2<f32>>> {
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
    let (height, width) = channel.dim();
    let (down, across) = if channel.len() > SAMPLED_ABOVE {
        ((height / 224).max(1), (width / 224).max(1))
    } else {
        (1, 1)
    };
    let rows = channel.rows().into_iter().step_by(down);
    rows.flat_map(|row| row.into_iter().step_by(across).copied())
        .collect()
}
