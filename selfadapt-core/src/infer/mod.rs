//! Whole images through a network: tile, forward, stitch.

use candle_core::{DType, Device, Tensor};

mod bands;
mod canvas;
mod cuts;
pub mod stream;

use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::maps::Prediction;
use crate::model::{InputSpec, Mode};
use crate::network::Network;
use crate::perturb::reflect;

use canvas::Canvas;
use cuts::Cuts;

/// How inference uses the machine; the result does not depend on it beyond rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InferOptions {
    /// Tiles a forward pass.
    pub batch: usize,
}

impl Default for InferOptions {
    fn default() -> Self {
        Self { batch: 8 }
    }
}

/// A whole image's maps, and what each tile said of itself.
#[derive(Clone, Debug)]
pub struct Stitched {
    /// One map a head `[1, channels, H / grid, W / grid]` on the CPU, and the mean of the tiles'
    /// embeddings `[1, D]`.
    pub prediction: Prediction,
    /// The tiles' embeddings `[tiles, D]`, on the CPU.
    pub tile_embeddings: Tensor,
}

/// Runs a prepared image `[C, H, W]` of any size through `network`; see [`Stitched::prediction`].
///
/// # Errors
/// As [`stitched`].
pub fn predict(
    network: &Network,
    spec: &InputSpec,
    prepared: &Tensor,
    options: InferOptions,
) -> Result<Prediction> {
    Ok(stitched(network, spec, prepared, options)?.prediction)
}

/// Pads `prepared` `[C, H, W]`, runs overlapping tiles in batches, and averages them under the window (Cellpose's
/// `run_net` and `average_tiles`, or DeepCell's `tile_image` and `untile_image`). Memory beyond the maps is that of one batch.
///
/// # Errors
/// If the image does not suit `spec`, or the network was not lent its weights detached (`Lend::Detached`).
pub fn stitched(
    network: &Network,
    spec: &InputSpec,
    prepared: &Tensor,
    options: InferOptions,
) -> Result<Stitched> {
    let (channels, height, width) = prepared.dims3()?;
    if channels != spec.channels || height * width == 0 {
        return Err(Error::Image(format!(
            "expected {} channels and at least one pixel, found {channels} channels of {height} x {width}",
            spec.channels
        )));
    }
    let (rows, columns) = (Cuts::new(height, spec), Cuts::new(width, spec));
    let image = prepared.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    let image = padded(&padded(&image, 1, &rows)?, 2, &columns)?;

    let tiles: Vec<Tile> = rows
        .starts
        .iter()
        .enumerate()
        .flat_map(|(j, &top)| {
            let columns = columns.starts.iter().enumerate();
            columns.map(move |(i, &left)| Tile {
                place: (j, i),
                top,
                left,
                view: view(spec, j, i),
            })
        })
        .collect();
    let heads = network.model.heads();
    let mut canvases: Vec<Canvas> = heads
        .iter()
        .map(|head| Canvas::new(head, &rows, &columns, spec))
        .collect();
    let mut embeddings = Vec::new();
    for batch in tiles.chunks(options.batch.max(1)) {
        let output = forward(network, &image, batch, (rows.side, columns.side))?;
        embeddings.push(output.embedding.to_device(&Device::Cpu)?);
        for ((head, canvas), map) in heads.iter().zip(&mut canvases).zip(&output.heads) {
            for (n, tile) in batch.iter().enumerate() {
                let map = tile.view.inverse().on_head(head, &map.narrow(0, n, 1)?)?;
                canvas.add(tile.place, (tile.top, tile.left), &map)?;
            }
        }
    }
    let tile_embeddings = Tensor::cat(&embeddings, 0)?;
    let heads = canvases
        .into_iter()
        .map(|canvas| canvas.finish((height, width), &rows, &columns, spec))
        .collect::<Result<_>>()?;
    Ok(Stitched {
        prediction: Prediction {
            heads,
            embedding: tile_embeddings.mean_keepdim(0)?,
        },
        tile_embeddings,
    })
}

/// One forward pass: tiles of `side` pixels of an image `[C, H, W]`, each as its view turns it.
fn forward(
    network: &Network,
    image: &Tensor,
    batch: &[Tile],
    side: (usize, usize),
) -> Result<Prediction> {
    let views = batch
        .iter()
        .map(|tile| {
            let view = image
                .narrow(1, tile.top, side.0)?
                .narrow(2, tile.left, side.1)?;
            network.seen(&view.unsqueeze(0)?, tile.view)
        })
        .collect::<Result<Vec<_>>>()?;
    let views = Tensor::cat(&views, 0)?.to_device(&network.params.device())?;
    let output = network.model.forward(&views, Mode::Eval)?;
    if output.embedding.track_op() {
        return Err(Error::Setting(
            "inference: the network's weights record a graph; build it with Lend::Detached \
             (the storage is shared, nothing is copied)"
                .into(),
        ));
    }
    Ok(output)
}

/// An image `[C, H, W]` with what the cuts add along an axis.
fn padded(image: &Tensor, axis: usize, cuts: &Cuts) -> Result<Tensor> {
    let length = image.dim(axis)?;
    if !cuts.mirrored {
        return Ok(image.pad_with_zeros(axis, cuts.before, cuts.padded - length - cuts.before)?);
    }
    let places =
        (0..cuts.padded).map(|at| reflect(at as isize - cuts.before as isize, length) as u32);
    let places = Tensor::from_iter(places, &Device::Cpu)?;
    Ok(image.contiguous()?.index_select(&places, axis)?)
}

/// One tile: its first pixel in the padded image, and how the network sees it.
#[derive(Clone, Copy)]
struct Tile {
    /// Its row and column among the tiles.
    place: (usize, usize),
    top: usize,
    left: usize,
    view: Dihedral,
}

/// Cellpose's turn-taking: tiles of odd columns are upside down, those of odd rows mirrored.
fn view(spec: &InputSpec, row: usize, column: usize) -> Dihedral {
    let upside_down = spec.mirrored && column % 2 == 1;
    let mirrored = spec.mirrored && row % 2 == 1;
    Dihedral {
        flip: upside_down != mirrored,
        turns: if upside_down { 2 } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::{Equivariance, Head, HeadKind};
    use crate::model::{SegmentationModel, Window};
    use crate::params::ParamSet;

    /// Says the image itself, and its central differences (dY, dX) around a torus the size of a tile.
    struct Differences([Head; 2]);

    impl SegmentationModel for Differences {
        fn heads(&self) -> &[Head] {
            &self.0
        }

        fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
            let difference =
                |axis| (images.roll(-1, axis)? - images.roll(1, axis)?)?.affine(0.5, 0.);
            Ok(Prediction {
                heads: vec![
                    images.clone(),
                    Tensor::cat(&[difference(2)?, difference(3)?], 1)?,
                ],
                embedding: images.mean((2, 3))?,
            })
        }
    }

    fn network() -> Network {
        let head = |name, channels, equivariance| Head {
            name,
            channels,
            kind: HeadKind::Regression(equivariance),
        };
        Network {
            model: Box::new(Differences([
                head("image", 1, Equivariance::Scalar),
                head("gradient", 2, Equivariance::Vector),
            ])),
            params: ParamSet::new([], |_| crate::params::Role::Weight).unwrap(),
            grid: 1,
        }
    }

    #[test]
    fn stitched_maps_are_those_of_the_whole_image() {
        let network = network();
        let mut spec = InputSpec {
            channels: 1,
            divisor: 16,
            crop: 64,
            tile: 64,
            align: 1,
            grid: 1,
            margin: 8,
            overlap: 0.2,
            // So steep that a tile's own edge, where its differences go round, has no weight.
            window: Window::Sigmoid {
                inset: 12.,
                softness: 0.5,
            },
            mirrored: false,
        };
        for (height, width) in [(150, 97), (33, 200), (5, 1)] {
            let pixels: Vec<f32> = (0..height * width)
                .map(|i| ((i * 7919) % 101) as f32)
                .collect();
            let image = Tensor::from_vec(pixels, (1, height, width), &Device::Cpu).unwrap();
            let around = image
                .pad_with_zeros(1, 1, 1)
                .unwrap()
                .pad_with_zeros(2, 1, 1)
                .unwrap();
            let shifted = |y: usize, x: usize| {
                around
                    .narrow(1, y, height)
                    .unwrap()
                    .narrow(2, x, width)
                    .unwrap()
            };
            let dy = ((shifted(2, 1) - shifted(0, 1)).unwrap() * 0.5).unwrap();
            let dx = ((shifted(1, 2) - shifted(1, 0)).unwrap() * 0.5).unwrap();
            for mirrored in [false, true] {
                spec.mirrored = mirrored;
                let options = InferOptions { batch: 3 };
                let found = predict(&network, &spec, &image, options).unwrap();
                for (found, expected) in [
                    (found.heads[0].get(0).unwrap(), image.clone()),
                    (
                        found.heads[1].get(0).unwrap(),
                        Tensor::cat(&[&dy, &dx], 0).unwrap(),
                    ),
                ] {
                    let difference = (found - expected)
                        .unwrap()
                        .abs()
                        .unwrap()
                        .max_all()
                        .unwrap();
                    let difference = difference.to_scalar::<f32>().unwrap();
                    assert!(
                        difference < 1e-3,
                        "{height} x {width}, {mirrored}: {difference}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_wrong_number_of_channels_is_an_error() {
        let spec = InputSpec {
            channels: 2,
            divisor: 1,
            crop: 8,
            tile: 8,
            align: 1,
            grid: 1,
            margin: 0,
            overlap: 0.,
            window: Window::Sigmoid {
                inset: 1.,
                softness: 1.,
            },
            mirrored: false,
        };
        let image = Tensor::zeros((1, 8, 8), DType::F32, &Device::Cpu).unwrap();
        let error = predict(&network(), &spec, &image, InferOptions::default()).unwrap_err();
        assert!(error.to_string().contains("expected 2 channels"), "{error}");
    }
}
