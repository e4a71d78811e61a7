//! One labelled image, ready to be cut into crops.

use ndarray::{Array3, Axis};

use super::Supervision;
use super::warp::Warp;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::labels::Labels;
use crate::model::{ModelConfig, Sizing};

/// A labelled image, normalised at its own scale.
pub struct Example {
    /// `[C, H, W]`.
    image: Array3<f32>,
    /// What [`Supervision::maps`] made of its labels.
    maps: Array3<f32>,
    /// Working pixels per image pixel.
    scale: f64,
    /// The diameter that `scale` rests on, where the model scales by its objects.
    diameter: Option<f64>,
    objects: usize,
}

impl Example {
    /// Prepares an image and its labels for `model`.
    ///
    /// # Errors
    /// If the two differ in size, there is no object, or the image does not suit the model.
    pub fn new(
        model: &dyn ModelConfig,
        supervision: &dyn Supervision,
        image: &Image,
        labels: &Labels,
    ) -> Result<Self> {
        if labels.size() != image.size() {
            let ((h, w), (height, width)) = (image.size(), labels.size());
            return Err(Error::Labels(format!(
                "expected labels of {h} x {w} pixels as the image has, found {height} x {width}"
            )));
        }
        if labels.count() == 0 {
            return Err(Error::Labels(
                "expected labelled objects, found none: every pixel is 0".into(),
            ));
        }
        let diameter = supervision.diameter(labels);
        let scale = model.working_scale(diameter.map_or(Sizing::Native, Sizing::Diameter))?;
        let (height, width) = image.size();
        // What a model adds at the ends, for the network to divide, has no labels.
        let prepared = model.prepare(image, 1.)?;
        let prepared = prepared.narrow(1, 0, height)?.narrow(2, 0, width)?;
        let shape = prepared.dims3()?;
        let image = Array3::from_shape_vec(shape, prepared.flatten_all()?.to_vec1()?)
            .map_err(|error| Error::Image(error.to_string()))?;
        Ok(Self {
            image,
            maps: supervision.maps(labels)?,
            scale,
            diameter,
            objects: labels.count(),
        })
    }

    /// `(height, width)` in pixels.
    pub fn size(&self) -> (usize, usize) {
        let (_, height, width) = self.image.dim();
        (height, width)
    }

    /// Working pixels per image pixel.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Diameter of its objects in pixels, where the model scales by them.
    pub fn diameter(&self) -> Option<f64> {
        self.diameter
    }

    /// How many objects it has.
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// A crop of the image `[C, side, side]` row by row, and its targets.
    pub(super) fn cut(
        &self,
        supervision: &dyn Supervision,
        warp: &Warp,
    ) -> Result<(Vec<f32>, Array3<f32>)> {
        let mut pixels = Vec::with_capacity(self.image.dim().0 * warp.side * warp.side);
        for channel in self.image.axis_iter(Axis(0)) {
            pixels.extend(warp.bilinear(channel));
        }
        Ok((pixels, supervision.crop(self.maps.view(), warp)?))
    }
}
