//! A model together with the parameters that it runs on.

use candle_core::Tensor;
use selfadapt_kernels::views::turn;

use crate::dihedral::Dihedral;
use crate::error::Result;
use crate::model::{ModelConfig, SegmentationModel};
use crate::params::{Lend, ParamSet};

/// A model and its parameters.
pub struct Network {
    /// The network.
    pub model: Box<dyn SegmentationModel>,
    /// The storage that it reads.
    pub params: ParamSet,
    /// Its maps hold every `grid`-th pixel, of rows and of columns, from the first on
    /// ([`crate::model::InputSpec::grid`]).
    pub grid: usize,
}

impl Network {
    /// Builds the configured model on `params`, which it keeps (nothing is copied).
    ///
    /// # Errors
    /// If a weight is missing, misshaped or unknown.
    pub fn new(config: &dyn ModelConfig, params: ParamSet, lend: Lend) -> Result<Self> {
        let model = params.lend(lend, |weights| config.build(weights))?;
        Ok(Self {
            model,
            params,
            grid: config.input().grid,
        })
    }

    /// `images` `[B, C, H, W]` through a view, such that the pixels that the maps hold are those that they hold of the images
    /// themselves, turned.
    ///
    /// In `W` pixels, a multiple of the grid, pixel `grid * i` lies at `W - 1 - grid * i` once columns are reversed, which is no
    /// multiple of it; moved by `grid - 1` pixels to the left it is. The last column is repeated there.
    ///
    /// # Errors
    /// If the images have other axes.
    pub fn seen(&self, images: &Tensor, view: Dihedral) -> Result<Tensor> {
        if view == Dihedral::IDENTITY {
            return Ok(images.clone());
        }
        let mut seen = turn(images, view.kernel())?;
        for (axis, reversed) in [2, 3].into_iter().zip(view.kernel().reversed()) {
            let length = seen.dim(axis)?;
            let beyond = (self.grid - 1).min(length.saturating_sub(1));
            if reversed && beyond > 0 {
                let last = seen.narrow(axis, length - 1, 1)?;
                let mut parts = vec![seen.narrow(axis, beyond, length - beyond)?];
                parts.resize(1 + beyond, last);
                seen = Tensor::cat(&parts, axis)?;
            }
        }
        Ok(seen)
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Network({:?}, {} parameters)",
            self.model.heads(),
            self.params.len()
        )
    }
}

/// A network on a coarse grid, for the tests of those that look through views.
#[cfg(test)]
pub(crate) mod fixtures {
    use super::*;
    use crate::head::{Equivariance, Head, HeadKind};
    use crate::maps::Prediction;
    use crate::model::Mode;
    use crate::params::Role;

    /// A network whose map is every `grid`-th pixel of the image.
    struct Sampled {
        heads: [Head; 1],
        grid: usize,
    }

    impl SegmentationModel for Sampled {
        fn heads(&self) -> &[Head] {
            &self.heads
        }

        fn forward(&self, images: &Tensor, _: Mode) -> Result<Prediction> {
            let (batch, channels, height, width) = images.dims4()?;
            let grid = self.grid;
            let rows = images.reshape((batch, channels, height / grid, grid, width))?;
            let rows = rows.narrow(3, 0, 1)?.contiguous()?;
            let pixels = rows.reshape((batch, channels, height / grid, width / grid, grid))?;
            let pixels = pixels.narrow(4, 0, 1)?.squeeze(4)?.contiguous()?;
            Ok(Prediction {
                embedding: images.mean((2, 3))?,
                heads: vec![pixels],
            })
        }
    }

    /// That network.
    pub fn sampled(grid: usize) -> Network {
        let head = Head {
            name: "image",
            channels: 1,
            kind: HeadKind::Regression(Equivariance::Scalar),
        };
        Network {
            model: Box::new(Sampled {
                heads: [head],
                grid,
            }),
            params: ParamSet::new([], |_| Role::Weight).unwrap(),
            grid,
        }
    }
}
