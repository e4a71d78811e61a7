//! StarDist's decoding of images gone through in parts: the same labels as of the whole image, pixel for pixel.

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use ndarray::Array3;
use selfadapt_core::error::Result;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{
    InputSpec, InstanceDecoder, Mode, ModelConfig, SegmentationModel, Sizing, Window,
};
use selfadapt_core::params::Role;
use selfadapt_core::parts::{ImageParts, PreparedParts, Resized};
use selfadapt_core::resize::bilinear;
use selfadapt_models::stardist::StarDistConfig;
use selfadapt_models::stardist::decode::StarDistDecoder;
use serde::{Deserialize, Serialize};

use crate::large_images::{as_a_whole, in_parts};

const RAYS: usize = 8;

/// A model whose object logits and distances are the channels of the image, decoded as StarDist's.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StarMirror;

fn decoder(scale: f64) -> Box<dyn InstanceDecoder> {
    Box::new(StarDistDecoder::new(StarDistConfig {
        n_rays: RAYS,
        grid: 1,
        // The image need only be even.
        unet_n_depth: 1,
        scale,
        ..StarDistConfig::default()
    }))
}

#[typetag::serde(name = "star-mirror")]
impl ModelConfig for StarMirror {
    fn input(&self) -> InputSpec {
        InputSpec {
            channels: 1 + RAYS,
            divisor: 2,
            crop: 64,
            tile: 64,
            align: 1,
            grid: 1,
            margin: 0,
            overlap: 0.2,
            window: Window::Sigmoid {
                inset: 8.,
                softness: 2.,
            },
            mirrored: false,
        }
    }

    fn role(&self, _: &str) -> Role {
        Role::Weight
    }

    fn build(&self, _: VarBuilder) -> Result<Box<dyn SegmentationModel>> {
        let head = |name, channels, kind| Head {
            name,
            channels,
            kind,
        };
        Ok(Box::new(Mirrored([
            head("object", 1, HeadKind::Classification),
            head("distance", RAYS, HeadKind::Regression(Equivariance::Rays)),
        ])))
    }

    fn decoder(&self) -> Box<dyn InstanceDecoder> {
        decoder(1.)
    }

    fn decoder_at(&self, scale: f64) -> Box<dyn InstanceDecoder> {
        decoder(scale)
    }

    fn working_scale(&self, _: Sizing) -> Result<f64> {
        Ok(1.)
    }

    fn prepare(&self, image: &Image, scale: f64) -> Result<Tensor> {
        let size = scaled(image.size(), scale);
        let mut pixels = Vec::new();
        for channel in image.pixels().outer_iter() {
            pixels.extend(bilinear(channel, size));
        }
        let shape = (1 + RAYS, size.0, size.1);
        Ok(Tensor::from_vec(pixels, shape, &Device::Cpu)?)
    }

    fn prepare_parts<'a>(
        &self,
        image: &'a mut dyn ImageParts,
        scale: f64,
    ) -> Result<Option<Box<dyn PreparedParts + 'a>>> {
        let size = scaled(image.size(), scale);
        Ok(Some(Box::new(Resized {
            image,
            size,
            inputs: 1 + RAYS,
            channels: |pixels: Array3<f32>| Ok(pixels.outer_iter().map(|c| c.to_owned()).collect()),
        })))
    }

    fn boxed(&self) -> Box<dyn ModelConfig> {
        Box::new(self.clone())
    }
}

fn scaled((height, width): (usize, usize), scale: f64) -> (usize, usize) {
    let scaled = |length: usize| (length as f64 * scale).round_ties_even() as usize;
    (scaled(height), scaled(width))
}

struct Mirrored([Head; 2]);

impl SegmentationModel for Mirrored {
    fn heads(&self) -> &[Head] {
        &self.0
    }

    fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
        Ok(Prediction {
            heads: vec![images.narrow(1, 0, 1)?, images.narrow(1, 1, RAYS)?],
            embedding: images.mean((2, 3))?,
        })
    }
}

/// Discs on a jittered lattice, many of which overlap: of each pixel, the logit and the distances to the border of the
/// disc that it lies deepest in.
fn discs(height: usize, width: usize) -> Image {
    let mut pixels = Array3::zeros((1 + RAYS, height, width));
    pixels.index_axis_mut(ndarray::Axis(0), 0).fill(-20.);
    for (j, top) in (0..height).step_by(19).enumerate() {
        for (i, left) in (0..width).step_by(21).enumerate() {
            let jitter = |salt: usize| ((i * 7919 + j * 104_729 + salt * 31) % 9) as f32 - 4.;
            let (y, x) = (top as f32 + jitter(1), left as f32 + jitter(2));
            let radius = 10. + jitter(3) / 2.;
            let reach = |at: f32, length: usize| {
                (at - radius).max(0.) as usize..((at + radius + 1.) as usize).min(length)
            };
            for row in reach(y, height) {
                for column in reach(x, width) {
                    let (dy, dx) = (row as f32 - y, column as f32 - x);
                    let depth = radius - dy.hypot(dx);
                    // No two pixels are equally probable.
                    let logit = depth - 6. - (row * width + column) as f32 * 1e-6;
                    if depth <= 0. || logit <= pixels[[0, row, column]] {
                        continue;
                    }
                    pixels[[0, row, column]] = logit;
                    for ray in 0..RAYS {
                        let (sin, cos) =
                            (std::f32::consts::TAU * ray as f32 / RAYS as f32).sin_cos();
                        let along = dy * sin + dx * cos;
                        let across = dy * dy + dx * dx - along * along;
                        pixels[[1 + ray, row, column]] =
                            (radius * radius - across).max(0.).sqrt() - along;
                    }
                }
            }
        }
    }
    Image::new(pixels, PixelType::Float).unwrap()
}

#[test]
fn stars_of_parts_are_those_of_the_whole() {
    let image = discs(340, 420);
    for (scale, core, overlap) in [(1., 64, 64), (0.7, 100, 80), (1.4, 150, 80)] {
        let whole = as_a_whole(&StarMirror, &image, scale);
        assert!(whole.count() > 200, "{}", whole.count());
        let (parts, streamed) = in_parts(&StarMirror, &image, scale, [core, overlap]);
        assert_eq!((streamed.cut, streamed.disputed), (0, 0));
        let told = format!("scale {scale}, cores of {core}");
        assert_eq!(streamed.objects, parts.count(), "{told}");
        // Numbers are those of first pixels in the one, and of the order of probability in the other.
        let mut partner = std::collections::BTreeMap::new();
        for (&part, &of_whole) in parts.as_slice().iter().zip(whole.as_slice()) {
            assert_eq!(part == 0, of_whole == 0, "{told}");
            assert_eq!(*partner.entry(part).or_insert(of_whole), of_whole, "{told}");
        }
        let seen: std::collections::BTreeSet<_> = partner.values().collect();
        assert_eq!(seen.len(), partner.len(), "{told}");
    }
}
