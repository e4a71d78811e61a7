//! From Mesmer's maps to cells and nuclei, as `deep_watershed` of deepcell-toolbox 0.12.1 does.

use ndarray::Array2;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::labels::Labels;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::InstanceDecoder;
use selfadapt_core::resize::nearest;
use selfadapt_kernels::gaussian::{Edge, gaussian};
use selfadapt_kernels::h_maxima::{components, h_maxima};
use selfadapt_kernels::small_holes::{fill_small_holes, remove_small};
use selfadapt_kernels::watershed::watershed;

use super::MesmerConfig;
use super::plan::HEAD_CHANNELS;

/// The class of a pixel inside of an object; 0 is its border, 2 the background.
const INTERIOR: usize = 1;

/// What the instances are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compartment {
    /// Cells, by the first two heads.
    WholeCell,
    /// Nuclei, by the last two.
    Nuclear,
}

/// Decodes the maps of one compartment with the thresholds of a configuration.
#[derive(Clone, Debug)]
pub struct MesmerDecoder {
    config: MesmerConfig,
    compartment: Compartment,
}

/// One compartment's maps of an image, row by row.
struct Maps {
    distance: Vec<f32>,
    interior: Vec<f32>,
    height: usize,
    width: usize,
}

impl MesmerDecoder {
    /// A decoder with the thresholds of `config`.
    pub fn new(config: MesmerConfig, compartment: Compartment) -> Self {
        Self {
            config,
            compartment,
        }
    }

    /// Instances `[height, width]` of a distance map and the probabilities of being inside of an object.
    ///
    /// # Errors
    /// If the maps have another size or hold numbers that are not finite, or a setting is out of range.
    pub fn instances(
        &self,
        distance: &[f32],
        interior: &[f32],
        (height, width): (usize, usize),
    ) -> Result<Vec<u32>> {
        let config = &self.config;
        config.check()?;
        let h = match self.compartment {
            Compartment::WholeCell => config.whole_cell_maxima,
            Compartment::Nuclear => config.nuclear_maxima,
        };
        let smooth = config.interior_smooth;
        let interior = gaussian(interior, (height, width), (smooth, smooth), Edge::Mirrored)?;
        let peaks = h_maxima(distance, height, width, h, config.radius)?;
        let markers = components(&peaks, height, width)?;
        let threshold = config.interior_threshold as f32;
        let mask: Vec<bool> = interior.iter().map(|&inside| inside > threshold).collect();
        let landscape: Vec<f32> = interior.iter().map(|inside| -inside).collect();
        let mut labels = watershed(&landscape, &markers, &mask, height, width)?;
        remove_small(&mut labels, config.min_size);
        Ok(fill_small_holes(&labels, height, width, config.fill_holes)?)
    }

    fn maps(&self, prediction: &Prediction) -> Result<Maps> {
        let first = match self.compartment {
            Compartment::WholeCell => 0,
            Compartment::Nuclear => 2,
        };
        let heads = prediction.heads.get(first..first + 2);
        let [distance, classes] = heads.unwrap_or_default() else {
            return Err(Error::Setting(format!(
                "Mesmer's decoder: expected {} maps, found {}",
                HEAD_CHANNELS.len(),
                prediction.heads.len()
            )));
        };
        let (_, _, height, width) = distance.dims4()?;
        if (distance.dims4()?, classes.dims4()?)
            != (
                (1, 1, height, width),
                (1, HEAD_CHANNELS[first + 1], height, width),
            )
        {
            return Err(Error::Setting(format!(
                "Mesmer's decoder: expected maps [1, 1, H, W] and [1, 3, H, W], found {:?} and {:?}",
                distance.dims(),
                classes.dims()
            )));
        }
        let numbers = |map: &candle_core::Tensor| map.flatten_all()?.to_vec1::<f32>();
        let probabilities = candle_nn::ops::softmax(classes, 1)?;
        Ok(Maps {
            distance: numbers(distance)?,
            interior: numbers(&probabilities.narrow(1, INTERIOR, 1)?)?,
            height,
            width,
        })
    }
}

impl InstanceDecoder for MesmerDecoder {
    fn decode(&self, prediction: &Prediction, original: (usize, usize)) -> Result<Labels> {
        let maps = self.maps(prediction)?;
        let size = (maps.height, maps.width);
        let labels = self.instances(&maps.distance, &maps.interior, size)?;
        if size == original {
            return Labels::from_rows(original.0, original.1, labels);
        }
        let labels = Array2::from_shape_vec(size, labels)
            .map_err(|error| Error::Image(error.to_string()))?;
        Ok(Labels::new(nearest(labels.view(), original)))
    }

    /// Mean squared difference, over instances and their pixels, between the predicted distance and the one that the
    /// instance's own shape gives.
    fn inconsistency(&self, prediction: &Prediction, labels: &Labels) -> Result<f64> {
        let maps = self.maps(prediction)?;
        if labels.size() != (maps.height, maps.width) {
            // Decoded at another scale: the shapes are no longer those of the maps.
            return Ok(f64::NAN);
        }
        Ok(misfit(labels.as_slice(), &maps.distance, maps.width))
    }
}

/// What is summed up over the pixels of an instance.
#[derive(Clone, Copy, Default)]
struct Shape {
    pixels: f64,
    y: f64,
    x: f64,
    error: f64,
}

/// DeepCell's `inner_distance_transform_2d` with `alpha="auto"` is `1 / (1 + d / sqrt(area))`, d the distance to the
/// instance's centroid in pixels. NaN without instances.
fn misfit(labels: &[u32], distance: &[f32], width: usize) -> f64 {
    let count = labels.iter().copied().max().unwrap_or(0) as usize;
    let mut shapes = vec![Shape::default(); count + 1];
    let places = || (0..labels.len()).map(|at| ((at / width) as f64, (at % width) as f64));
    for (&label, (y, x)) in labels.iter().zip(places()) {
        let shape = &mut shapes[label as usize];
        shape.pixels += 1.;
        shape.y += y;
        shape.x += x;
    }
    for ((&label, &found), (y, x)) in labels.iter().zip(distance).zip(places()) {
        let shape = &mut shapes[label as usize];
        let (down, across) = (y - shape.y / shape.pixels, x - shape.x / shape.pixels);
        let expected = 1. / (1. + down.hypot(across) / shape.pixels.sqrt());
        shape.error += (f64::from(found) - expected).powi(2) / shape.pixels;
    }
    let instances = shapes.iter().skip(1).filter(|shape| shape.pixels > 0.);
    let (sum, count) = instances.fold((0., 0.), |(sum, n), shape| (sum + shape.error, n + 1.));
    sum / count
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    /// Two round cells, their distances as the transform gives them.
    fn cells(side: usize, centres: &[[f64; 2]], radius: f64) -> (Vec<f32>, Vec<f32>) {
        let nearest = |at: usize| {
            let (y, x) = ((at / side) as f64, (at % side) as f64);
            let far = centres.iter().map(|c| (y - c[0]).hypot(x - c[1]));
            far.fold(f64::INFINITY, f64::min)
        };
        let root = (std::f64::consts::PI * radius * radius).sqrt();
        (0..side * side)
            .map(|at| {
                let inside = nearest(at) <= radius;
                let distance = if inside {
                    1. / (1. + nearest(at) / root)
                } else {
                    0.
                };
                (distance as f32, if inside { 0.95 } else { 0.02 })
            })
            .unzip()
    }

    fn decoder() -> MesmerDecoder {
        MesmerDecoder::new(MesmerConfig::default(), Compartment::Nuclear)
    }

    fn prediction(distance: &[f32], interior: &[f32], side: usize) -> Prediction {
        let map =
            |values: Vec<f32>| Tensor::from_vec(values, (1, 1, side, side), &Device::Cpu).unwrap();
        let background = interior.iter().map(|p| (0.99 - p).ln()).collect();
        let border = vec![0.01f32.ln(); side * side];
        let inside = interior.iter().map(|p| p.ln()).collect();
        let classes = Tensor::cat(&[map(border), map(inside), map(background)], 1).unwrap();
        let distance = map(distance.to_vec());
        Prediction {
            heads: vec![distance.clone(), classes.clone(), distance, classes],
            embedding: Tensor::zeros((1, 1), DType::F32, &Device::Cpu).unwrap(),
        }
    }

    #[test]
    fn touching_cells_are_told_apart() {
        let (distance, interior) = cells(40, &[[12., 12.], [12., 27.]], 8.);
        let labels = decoder().instances(&distance, &interior, (40, 40)).unwrap();
        assert_eq!(labels.iter().max(), Some(&2));
        let area = |label| labels.iter().filter(|l| **l == label).count() as f64;
        for label in [1, 2] {
            // Smoothing the interior widens a cell by about a pixel.
            assert!((190. ..330.).contains(&area(label)), "{}", area(label));
        }
        let few = decoder()
            .instances(&distance, &vec![0.; 1600], (40, 40))
            .unwrap();
        assert!(few.iter().all(|&label| label == 0));
    }

    #[test]
    fn labels_come_back_at_the_size_of_the_image() {
        let (distance, interior) = cells(40, &[[12., 12.], [12., 27.]], 8.);
        let prediction = prediction(&distance, &interior, 40);
        let labels = decoder().decode(&prediction, (80, 60)).unwrap();
        assert_eq!((labels.size(), labels.count()), ((80, 60), 2));
        assert!(
            decoder()
                .inconsistency(&prediction, &labels)
                .unwrap()
                .is_nan()
        );
    }

    #[test]
    fn maps_that_fit_their_instances_are_consistent() {
        // Without smoothing, so that instances end where the distances do.
        let config = MesmerConfig {
            interior_smooth: 0.,
            ..MesmerConfig::default()
        };
        let decoder = MesmerDecoder::new(config, Compartment::WholeCell);
        let (distance, interior) = cells(40, &[[12., 12.], [28., 27.]], 8.);
        let good = prediction(&distance, &interior, 40);
        let labels = decoder.decode(&good, (40, 40)).unwrap();
        let fit = decoder.inconsistency(&good, &labels).unwrap();
        let flat: Vec<f32> = distance.iter().map(|d| d * 0.5).collect();
        let bad = prediction(&flat, &interior, 40);
        let misfit = decoder.inconsistency(&bad, &labels).unwrap();
        assert!(fit < 1e-3 && misfit > 0.05, "{fit} {misfit}");
        let none = Labels::empty(40, 40);
        assert!(decoder.inconsistency(&good, &none).unwrap().is_nan());
    }

    #[test]
    fn maps_of_another_model_are_refused() {
        let (distance, interior) = cells(8, &[[4., 4.]], 3.);
        let mut maps = prediction(&distance, &interior, 8);
        maps.heads.truncate(3);
        let error = decoder().decode(&maps, (8, 8)).unwrap_err().to_string();
        assert!(error.contains("expected 4 maps, found 3"), "{error}");
    }
}
