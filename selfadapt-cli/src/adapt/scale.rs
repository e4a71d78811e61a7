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

/// Images that are looked at; more cost time and change the estimate little.
const IMAGES: usize = 5;

/// Estimates the diameter from up to five images, evenly spread over `paths`, and says so.
///
/// # Errors
/// If an image cannot be read or nothing is found in any.
pub fn estimate(model: &dyn ModelConfig, params: &ParamSet, paths: &[PathBuf]) -> Result<Sizing> {
    let images = few(paths)?;
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
) -> Result<Sizing> {
    let network = Network::new(model, params.clone(), Lend::Detached)?;
    let mut found: Vec<f64> = few(paths)?
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

fn few(paths: &[PathBuf]) -> Result<Vec<Image>> {
    let step = paths.len().div_ceil(IMAGES).max(1);
    let some = paths.iter().step_by(step);
    some.map(|path| Ok(io::read(path, &Axes::default())?.0))
        .collect()
}
