//! Images of a run: read and prepared when a crop is drawn from them, large ones by windows.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::Tensor;
use ndarray::Array3;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::io::{self, Axes, Whole};
use selfadapt_core::model::ModelConfig;
use selfadapt_core::source::ImageSource;

use super::settings::RunConfig;
use super::windows::{self, Windows};
use crate::segment::stream;

/// Files on disk, prepared for a model at a fixed scale.
#[derive(Debug)]
pub struct Files {
    views: Vec<View>,
    axes: Axes,
    model: Box<dyn ModelConfig>,
    scale: f64,
    windows: Mutex<Windows>,
}

/// What counts as an image of its own.
#[derive(Debug)]
enum View {
    Whole(PathBuf),
    Window { path: PathBuf, index: usize },
}

impl Files {
    /// Images at `paths` as the run's model sees them; windows of large ones are kept in an unnamed file in `folder`.
    ///
    /// # Errors
    /// If the model needs a size that the settings do not give.
    pub fn new(paths: Vec<PathBuf>, config: &RunConfig, folder: &Path) -> Result<Self> {
        let scale = config.model.working_scale(config.sizing)?;
        let in_parts = takes_parts(config.model.as_ref(), scale);
        let is_large = |path: &PathBuf| in_parts && stream::is_large(path, &config.axes);
        let large: Vec<bool> = paths.iter().map(is_large).collect();
        let a_side = windows::a_side(large.iter().filter(|&&large| large).count());
        let views = paths.into_iter().zip(large).flat_map(|(path, large)| {
            if large {
                let windows = 0..a_side * a_side;
                let view = |index| View::Window {
                    path: path.clone(),
                    index,
                };
                windows.map(view).collect()
            } else {
                vec![View::Whole(path)]
            }
        });
        Ok(Self {
            views: views.collect(),
            axes: config.axes,
            model: config.model.boxed(),
            scale,
            windows: Mutex::new(Windows::new(folder, a_side, config.adapt.crop)),
        })
    }
}

/// Whether a model can prepare an image in parts, asked of a single grey pixel.
fn takes_parts(model: &dyn ModelConfig, scale: f64) -> bool {
    Image::new(Array3::zeros((1, 1, 1)), PixelType::Float)
        .is_ok_and(|pixel| !matches!(model.prepare_parts(&mut Whole(pixel), scale), Ok(None)))
}

/// A file that is there and cannot be used is one image less; one that is gone is an error.
fn of_no_use(error: Error) -> Error {
    match &error {
        Error::Read { path, .. } if path.exists() => Error::Image(error.to_string()),
        _ => error,
    }
}

impl ImageSource for Files {
    fn len(&self) -> usize {
        self.views.len()
    }

    fn name(&self, index: usize) -> String {
        match self.views.get(index) {
            Some(View::Whole(path)) => path.display().to_string(),
            Some(View::Window { path, index }) => format!("{}, part {}", path.display(), index + 1),
            None => String::new(),
        }
    }

    fn prepared(&self, index: usize) -> Result<Tensor> {
        let missing = || Error::Image(format!("there is no image {index}"));
        let (model, scale) = (self.model.as_ref(), self.scale);
        match self.views.get(index).ok_or_else(missing)? {
            View::Whole(path) => io::read(path, &self.axes)
                .and_then(|(image, _)| {
                    let prepared = model.prepare(&image, scale);
                    prepared.map_err(|reason| Error::read(path, reason))
                })
                .map_err(of_no_use),
            View::Window { path, index } => {
                let mut windows = self.windows.lock().map_err(|_| {
                    Error::Setting("the windows were left in pieces by a panic".into())
                })?;
                windows
                    .prepared(path, *index, &self.axes, model, scale)
                    .map_err(of_no_use)
            }
        }
    }
}
