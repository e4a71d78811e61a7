//! Images of a run: read and prepared when a crop is drawn from them.

use std::path::PathBuf;

use candle_core::Tensor;
use selfadapt_core::crops::ImageSource;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::{self, Axes};
use selfadapt_core::model::ModelConfig;

/// Files on disk, prepared for a model at a fixed scale.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    model: Box<dyn ModelConfig>,
    scale: f64,
}

impl Files {
    /// Images at `paths` as `model` sees them at `scale` working pixels per image pixel.
    pub fn new(paths: Vec<PathBuf>, model: &dyn ModelConfig, scale: f64) -> Self {
        Self {
            paths,
            model: model.boxed(),
            scale,
        }
    }

    /// The files.
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

impl ImageSource for Files {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn name(&self, index: usize) -> String {
        self.paths
            .get(index)
            .map_or_else(String::new, |path| path.display().to_string())
    }

    fn prepared(&self, index: usize) -> Result<Tensor> {
        let path = self
            .paths
            .get(index)
            .ok_or_else(|| Error::Image(format!("there is no image {index}")))?;
        let (image, _) = io::read(path, &Axes::default())?;
        self.model
            .prepare(&image, self.scale)
            .map_err(|e| Error::read(path, e))
    }
}
