//! `--diameter auto`: how large the objects are, from a few of the images.

use std::path::PathBuf;

use selfadapt_core::diameter::estimate_diameter;
use selfadapt_core::error::Result;
use selfadapt_core::image::Image;
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
    let step = paths.len().div_ceil(IMAGES).max(1);
    let images: Vec<Image> = paths
        .iter()
        .step_by(step)
        .map(|path| Ok(io::read(path, &Axes::default())?.0))
        .collect::<Result<_>>()?;
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
