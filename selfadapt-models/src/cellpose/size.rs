//! Cellpose's estimate of the objects' diameter: a linear map of the style, then a look at the masks.

use std::path::{Path, PathBuf};

use selfadapt_core::diameter::{self, ImageDiameter};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::Image;
use selfadapt_core::infer::{InferOptions, predict, stitched};
use selfadapt_core::model::{InstanceDecoder, ModelConfig, Sizing};
use selfadapt_core::network::Network;
use selfadapt_kernels::objects::median_diameter;

use super::CellposeConfig;
use super::decode::CellposeDecoder;
use super::net::style;
use super::prepare::prepare;
use crate::weights::size_model::SizeModel;

/// A size model with the settings of the network that it belongs to.
#[derive(Clone, Debug)]
pub struct StyleSize {
    path: PathBuf,
    model: SizeModel,
    config: CellposeConfig,
}

impl StyleSize {
    /// The size model beside a checkpoint, by Cellpose's names: `<checkpoint>_size.npy`, which `train_size`
    /// writes, or `size_<checkpoint>.npy`, as the downloaded ones are called.
    ///
    /// # Errors
    /// If there is one and it is damaged, or takes the styles of another network.
    pub fn beside(checkpoint: &Path, config: &CellposeConfig) -> Result<Option<Self>> {
        let Some(name) = checkpoint.file_name().map(|name| name.to_string_lossy()) else {
            return Ok(None);
        };
        let names = [format!("{name}_size.npy"), format!("size_{name}.npy")];
        let mut paths = names.iter().map(|name| checkpoint.with_file_name(name));
        let Some(path) = paths.find(|path| path.is_file()) else {
            return Ok(None);
        };
        let model = SizeModel::read(&path)?;
        let styles = config.nbase.last().copied().unwrap_or_default();
        if model.coefficients.len() != styles {
            return Err(Error::read(
                &path,
                format!(
                    "a size model of another network: it takes styles of {} numbers, those of {} have {styles}",
                    model.coefficients.len(),
                    checkpoint.display()
                ),
            ));
        }
        let config = config.clone();
        Ok(Some(Self {
            path,
            model,
            config,
        }))
    }
}

impl diameter::SizeModel for StyleSize {
    fn path(&self) -> &Path {
        &self.path
    }

    fn estimate(
        &self,
        network: &Network,
        image: &Image,
        options: InferOptions,
    ) -> Result<ImageDiameter> {
        estimate(network, &self.config, &self.model, image, options)
    }
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
) -> Result<ImageDiameter> {
    // `Cellpose.eval` hands the size model neither its tiling nor its thresholds.
    let usual = CellposeConfig::default();
    let config = &CellposeConfig {
        augment: usual.augment,
        tile_overlap: usual.tile_overlap,
        ..config.clone()
    };
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
        ..usual
    });
    let labels = decoder.decode(&prediction, image.size())?;
    let pixels = or_else(median_diameter(labels.as_slice()), size.diam_mean);
    if !pixels.is_finite() {
        return Err(Error::NotFinite(format!(
            "the estimated diameter is {pixels}"
        )));
    }
    Ok(ImageDiameter {
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
