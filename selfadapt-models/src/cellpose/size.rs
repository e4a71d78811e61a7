//! Cellpose's estimate of the objects' diameter: a linear map of the style, then a look at the masks.

use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::infer::{InferOptions, predict, stitched};
use selfadapt_core::labels::Labels;
use selfadapt_core::model::{InstanceDecoder, ModelConfig, Sizing};
use selfadapt_core::network::Network;

use super::CellposeConfig;
use super::decode::CellposeDecoder;
use super::net::style;
use super::prepare::prepare;
use crate::weights::size_model::SizeModel;

/// What the two passes over an image said, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Diameter {
    /// The diameter to use: from the masks, or else from the style.
    pub pixels: f64,
    /// What the style alone suggests.
    pub by_style: f64,
    /// Masks found in the second pass; 0 means that `pixels` is the size model's mean.
    pub masks: usize,
}

/// Estimates the diameter of an image's objects (`SizeModel.eval`): the style of the whole image gives a
/// first diameter; masks found at that scale give the final one, their median.
///
/// # Errors
/// If the image cannot be prepared or the size model is of another network.
pub fn estimate(
    network: &Network,
    config: &CellposeConfig,
    size: &SizeModel,
    image: &Image,
    options: InferOptions,
) -> Result<Diameter> {
    let spec = config.input();
    // Cellpose looks first at the size on which the model was trained.
    let scale = match config.diam_labels {
        Some(_) => config.working_scale(Sizing::Native)?,
        None => 1.,
    };
    let first = stitched(network, &spec, &prepare(config, image, scale)?, options)?;
    let styles = style(&first.tile_embeddings)?;
    let style = style(&styles.sum_keepdim(0)?)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let by_style = or_else(size.diameter(&style)?, size.diam_mean);

    let second = prepare(config, image, size.diam_mean / by_style)?;
    let prediction = predict(network, &spec, &second, options)?;
    // The settings of `SizeModel.eval`: thresholds at their defaults, flows followed coarsely.
    let decoder = CellposeDecoder::new(CellposeConfig {
        resample: false,
        interp: false,
        ..CellposeConfig::default()
    });
    let labels = decoder.decode(&prediction, image.size())?;
    let pixels = or_else(median_diameter(&labels), size.diam_mean);
    if !pixels.is_finite() {
        return Err(Error::NotFinite(format!(
            "the estimated diameter is {pixels}"
        )));
    }
    Ok(Diameter {
        pixels,
        by_style,
        masks: labels.count(),
    })
}

/// `diameter`, or `mean` where it says nothing.
fn or_else(diameter: f64, mean: f64) -> f64 {
    if diameter.is_nan() || diameter == 0. {
        mean
    } else {
        diameter
    }
}

/// The median diameter of the objects in pixels, taken as discs (`utils.diameters`); 0 without objects.
pub fn median_diameter(labels: &Labels) -> f64 {
    let mut roots: Vec<f64> = labels
        .areas()
        .iter()
        .map(|&area| (area as f64).sqrt())
        .collect();
    roots.sort_unstable_by(f64::total_cmp);
    let middle = roots.len() / 2;
    let median = match roots.as_slice() {
        [] => 0.,
        odd if odd.len() % 2 == 1 => odd[middle],
        even => (even[middle - 1] + even[middle]) / 2.,
    };
    median * 2. / std::f64::consts::PI.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_diameter_is_that_of_discs() {
        let labels = |pixels: &[u32]| Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap();
        let disc = 2. / std::f64::consts::PI.sqrt();
        assert_eq!(median_diameter(&labels(&[0, 0])), 0.);
        assert!((median_diameter(&labels(&[1, 1, 1, 1, 0, 2])) - 1.5 * disc).abs() < 1e-12);
        let three = labels(&[1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert!((median_diameter(&three) - 2. * disc).abs() < 1e-12);
    }
}
