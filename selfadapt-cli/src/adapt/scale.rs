//! How large the objects are, from a few of the images: by scales tried, or by the model's own size model.

use std::path::PathBuf;

use selfadapt_core::diameter::{SizeModel, estimate_diameter};
use selfadapt_core::error::Result;
use selfadapt_core::image::Image;
use selfadapt_core::infer::InferOptions;
use selfadapt_core::io::{self, Axes};
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, ParamSet};

use super::windows;
use crate::segment::stream;

/// Images that are looked at; more cost time and change the estimate little.
const IMAGES: usize = 5;

/// Estimates the diameter from up to five images, evenly spread over `paths`, and says so.
///
/// # Errors
/// If an image cannot be read or nothing is found in any.
pub fn estimate(
    model: &dyn ModelConfig,
    params: &ParamSet,
    paths: &[PathBuf],
    axes: &Axes,
) -> Result<Sizing> {
    let images = few(paths, axes)?;
    let network = Network::new(model, params.clone(), Lend::Detached)?;
    let estimate = estimate_diameter(model, &network, &images)?;
    tracing::info!(
        "diameter: about {:.1} pixels, estimated from {} images, of which {:.0} % agree; give --diameter if you know it",
        estimate.diameter,
        images.len(),
        100. * estimate.confidence
    );
    Ok(Sizing::Diameter((10. * estimate.diameter).round() / 10.))
}

/// The median of what the size model says of up to five images, evenly spread over `paths`; says so.
///
/// # Errors
/// If an image cannot be read or does not suit the model.
pub fn by_size_model(
    size: &dyn SizeModel,
    model: &dyn ModelConfig,
    params: &ParamSet,
    paths: &[PathBuf],
    axes: &Axes,
) -> Result<Sizing> {
    let network = Network::new(model, params.clone(), Lend::Detached)?;
    let mut found: Vec<f64> = few(paths, axes)?
        .iter()
        .map(|image| {
            Ok(size
                .estimate(&network, image, InferOptions::default())?
                .pixels)
        })
        .collect::<Result<_>>()?;
    found.sort_by(f64::total_cmp);
    let median = found.get(found.len() / 2).copied().unwrap_or(f64::NAN);
    tracing::info!(
        "diameter: about {median:.1} pixels, by {} on {} images; give --diameter if you know it",
        size.path().display(),
        found.len()
    );
    Ok(Sizing::Diameter((10. * median).round() / 10.))
}

/// About `count` of the paths, evenly spread.
pub fn spread(paths: &[PathBuf], count: usize) -> impl Iterator<Item = &PathBuf> {
    paths.iter().step_by(paths.len().div_ceil(count).max(1))
}

/// Images evenly spread over `paths`; a damaged one is left out, as the run will leave it out.
fn few(paths: &[PathBuf], axes: &Axes) -> Result<Vec<Image>> {
    let (mut images, mut failed) = (Vec::new(), None);
    for path in spread(paths, IMAGES) {
        let image = if stream::is_large(path, axes) {
            windows::liveliest(path, axes)
        } else {
            io::read(path, axes).map(|(image, _)| image)
        };
        match image {
            Ok(image) => images.push(image),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if images.is_empty() => Err(error),
        _ => Ok(images),
    }
}
