//! The diameter of the objects: of one image by a model's own size model, of a set of images by trying scales.

use std::path::Path;

use ndarray::{ArrayView3, Axis, Slice};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::infer::{InferOptions, predict};
use crate::model::{ModelConfig, Sizing};
use crate::network::Network;

/// An estimator of the diameter in single images that was trained along with a model's weights.
pub trait SizeModel: std::fmt::Debug + Send + Sync {
    /// The file that it came from.
    fn path(&self) -> &Path;

    /// Estimates the diameter of the objects of `image`, which `network` sees.
    ///
    /// # Errors
    /// If the image does not suit the model.
    fn estimate(
        &self,
        network: &Network,
        image: &Image,
        options: InferOptions,
    ) -> Result<ImageDiameter>;
}

/// What a [`SizeModel`] says of one image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageDiameter {
    /// The diameter to use, in image pixels: from the masks, or else from the style.
    pub pixels: f64,
    /// What the network's style alone suggests, in image pixels.
    pub by_style: f64,
    /// Masks found at that size; 0 means that `pixels` is the size model's mean.
    pub masks: usize,
}

/// Diameters that are tried, in image pixels: from small bacteria to large cells, in steps of the square root of 2.
const TRIED: [f64; 9] = [8., 11.3, 16., 22.6, 32., 45., 64., 90., 128.];

/// What the model found when it took objects for this large.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The assumed diameter, in image pixels.
    pub assumed: f64,
    /// Instances found in all windows.
    pub instances: usize,
    /// Their median diameter (of the disc of the same area), in image pixels; NaN of none.
    pub found: f64,
    /// How well the answer fits the assumption, 0 to 1.
    pub score: f64,
}

/// An estimate and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiameterEstimate {
    /// In image pixels.
    pub diameter: f64,
    /// Share of images whose own objects agree with it within a quarter, 0 to 1.
    pub confidence: f64,
    /// All scales that were tried.
    pub trials: Vec<Trial>,
}

/// Segments a window of each image at several scales and keeps the scale whose objects come out as large as they
/// were taken for, cover most, and contradict the maps least; then refines it as Cellpose's size step does: by the
/// median diameter of what is found at that scale.
///
/// # Errors
/// If the model knows no diameters, an image does not suit it, or nothing is found at any scale.
pub fn estimate_diameter(
    model: &dyn ModelConfig,
    network: &Network,
    images: &[Image],
) -> Result<DiameterEstimate> {
    let mut trials = Vec::new();
    for assumed in TRIED {
        trials.push(attempt(model, network, images, assumed)?.0);
    }
    let best = trials
        .iter()
        .copied()
        .filter(|trial| trial.score > 0.)
        .max_by(|a, b| a.score.total_cmp(&b.score))
        .ok_or_else(|| {
            Error::Image(
                "no object was found at any scale, so no diameter can be estimated; give one with --diameter".into(),
            )
        })?;
    let mut diameter = best.found;
    let mut of_images = Vec::new();
    // Two refinements: the first can still be one step of the ladder away.
    for _ in 0..2 {
        let (trial, medians) = attempt(model, network, images, diameter)?;
        if trial.instances > 0 {
            diameter = trial.found;
            of_images = medians;
        }
        trials.push(trial);
    }
    let agree = of_images
        .iter()
        .filter(|own| (0.8..1.25).contains(&(**own / diameter)))
        .count();
    let confidence = agree as f64 / images.len().max(1) as f64;
    Ok(DiameterEstimate {
        diameter,
        confidence,
        trials,
    })
}

/// Segments one window of each image as if objects were `assumed` pixels wide; also each image's own median.
fn attempt(
    model: &dyn ModelConfig,
    network: &Network,
    images: &[Image],
    assumed: f64,
) -> Result<(Trial, Vec<f64>)> {
    let scale = model.working_scale(Sizing::Diameter(assumed))?;
    let (spec, decoder) = (model.input(), model.decoder_at(scale));
    let (mut all, mut medians) = (Vec::new(), Vec::new());
    let (mut covered, mut seen, mut wrong) = (0., 0., Vec::new());
    for image in images {
        // About one tile of the network, but never so small that it holds hardly an object.
        let side = (spec.crop as f64 / scale).max(4. * assumed).round() as usize;
        let window = busiest_window(image, side)?;
        let maps = predict(
            network,
            &spec,
            &model.prepare(&window, scale)?,
            InferOptions::default(),
        )?;
        let labels = decoder.decode(&maps, window.size())?;
        let mut own = labels.diameters();
        covered += labels.areas().iter().sum::<usize>() as f64;
        seen += (window.size().0 * window.size().1) as f64;
        let inconsistency = decoder.inconsistency(&maps, &labels)?;
        if inconsistency.is_finite() {
            wrong.push(inconsistency);
        }
        if !own.is_empty() {
            medians.push(median(&mut own));
        }
        all.extend(own);
    }
    let instances = all.len();
    let found = median(&mut all);
    let score = if instances == 0 {
        0.
    } else {
        let mismatch = (found / assumed).ln() / 0.35;
        let wrong = if wrong.is_empty() {
            0.
        } else {
            wrong.iter().sum::<f64>() / wrong.len() as f64
        };
        covered / seen * (-0.5 * mismatch * mismatch).exp() / (1. + 10. * wrong)
    };
    Ok((
        Trial {
            assumed,
            instances,
            found,
            score,
        },
        medians,
    ))
}

/// The middle value (of an even number, the upper of the two); NaN of nothing. Sorts.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The square of at most `side` pixels with the largest variance, on a lattice of half sides.
fn busiest_window(image: &Image, side: usize) -> Result<Image> {
    let (height, width) = image.size();
    let (rows, columns) = (side.min(height), side.min(width));
    let starts = |size: usize, length: usize| {
        let step = (length / 2).max(1);
        (0..=size - length).step_by(step).collect::<Vec<_>>()
    };
    let pixels = image.pixels();
    let mut best = (f32::NEG_INFINITY, (0, 0));
    for &top in &starts(height, rows) {
        for &left in &starts(width, columns) {
            let window = cut(pixels, (top, left), (rows, columns));
            let variance: f32 = window.axis_iter(Axis(0)).map(|plane| plane.var(0.)).sum();
            if variance > best.0 {
                best = (variance, (top, left));
            }
        }
    }
    Image::new(
        cut(pixels, best.1, (rows, columns)).to_owned(),
        image.stored_as(),
    )
}

fn cut(
    pixels: ArrayView3<'_, f32>,
    (top, left): (usize, usize),
    (rows, columns): (usize, usize),
) -> ArrayView3<'_, f32> {
    let mut window = pixels;
    window.slice_axis_inplace(Axis(1), Slice::from(top..top + rows));
    window.slice_axis_inplace(Axis(2), Slice::from(left..left + columns));
    window
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelType;
    use ndarray::Array3;

    #[test]
    fn the_busiest_window_holds_the_object() {
        let pixels = Array3::from_shape_fn((1, 100, 120), |(_, y, x)| {
            if (70..80).contains(&y) && (90..100).contains(&x) {
                1.
            } else {
                0.
            }
        });
        let window = busiest_window(&Image::new(pixels, PixelType::U8).unwrap(), 40).unwrap();
        assert_eq!(window.size(), (40, 40));
        assert_eq!(window.pixels().sum(), 100.);
    }

    #[test]
    fn the_median_of_nothing_is_not_a_number() {
        assert!(median(&mut []).is_nan());
        assert_eq!(median(&mut [3., 1., 2.]), 2.);
    }
}
