//! The teacher: a moving average of the student that labels crops by averaging over views.

use candle_core::Tensor;
use selfadapt_kernels::ema::ema;
use selfadapt_kernels::views::{Activation, View, ViewsMerge, turn};

use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::head::Head;
use crate::maps::PseudoLabel;
use crate::model::{Mode, ModelConfig};
use crate::network::Network;
use crate::params::{Lend, ParamSet};

/// The teacher network, the views that it looks through, and how slowly it follows.
#[derive(Debug)]
pub struct Teacher {
    /// Its network; built without a graph.
    pub network: Network,
    views: Vec<Dihedral>,
    momentum: f64,
}

impl Teacher {
    /// A teacher that begins as a copy of `pretrained`.
    ///
    /// # Errors
    /// If the weights do not fit, there is no view, or `momentum` lies outside `[0, 1]`.
    pub fn new(
        model: &dyn ModelConfig,
        pretrained: &ParamSet,
        views: Vec<Dihedral>,
        momentum: f64,
    ) -> Result<Self> {
        if views.is_empty() {
            return Err(Error::Setting("views: expected at least one".into()));
        }
        if !(0. ..=1.).contains(&momentum) {
            return Err(Error::Setting(format!(
                "ema: expected 0 to 1, found {momentum}"
            )));
        }
        let network = Network::new(model, pretrained.fork()?, Lend::Detached)?;
        Ok(Self {
            network,
            views,
            momentum,
        })
    }

    /// Labels crops `[B, C, H, W]`: mean and standard deviation over the views, each undone
    /// (paper, section 2.1).
    ///
    /// # Errors
    /// If the crops do not fit the network.
    pub fn label(&self, images: &Tensor) -> Result<PseudoLabel> {
        label(&self.network, &self.views, images)
    }

    /// Moves towards the student: `ema * teacher + (1 - ema) * student` on weights and buffers.
    ///
    /// # Errors
    /// If the two differ in names or shapes.
    pub fn follow(&self, student: &ParamSet) -> Result<()> {
        let own: Vec<_> = self.network.params.iter().map(|(_, var, _)| var).collect();
        let theirs: Vec<Tensor> = student.tensors().map(|(_, tensor, _)| tensor).collect();
        ema(&own, &theirs.iter().collect::<Vec<_>>(), self.momentum)?;
        Ok(())
    }
}

/// Mean and spread of a network's activated outputs over dihedral views of `images`.
///
/// # Errors
/// If the images do not fit the network.
pub fn label(network: &Network, views: &[Dihedral], images: &Tensor) -> Result<PseudoLabel> {
    let heads = network.model.heads();
    let mut merges: Vec<ViewsMerge> = heads
        .iter()
        .map(|head| ViewsMerge::new(activation(head)))
        .collect();
    for view in views {
        let seen = seen(images, kernel_view(*view), network.grid)?;
        let prediction = network.model.forward(&seen, Mode::Eval)?;
        for ((head, map), merge) in heads.iter().zip(&prediction.heads).zip(&mut merges) {
            merge.push(map, kernel_view(*view), &view.inverse().channel_map(head)?)?;
        }
    }
    let mut label = PseudoLabel {
        mean: Vec::new(),
        spread: Vec::new(),
    };
    for merge in merges {
        let (mean, spread) = merge.finish()?;
        label.mean.push(mean);
        label.spread.push(spread);
    }
    Ok(label)
}

/// A view of `images` in which a network whose maps hold every `grid`-th pixel looks at the pixels that it looks at in the
/// images themselves.
///
/// In `W` pixels, a multiple of `grid`, pixel `grid * i` lies at `W - 1 - grid * i` once columns are reversed, which is no
/// multiple of `grid`; moved by `grid - 1` pixels to the left it is. The last column is repeated there.
fn seen(images: &Tensor, view: View, grid: usize) -> Result<Tensor> {
    let mut seen = turn(images, view)?;
    for (axis, reversed) in [2, 3].into_iter().zip(view.reversed()) {
        let length = seen.dim(axis)?;
        let beyond = (grid - 1).min(length.saturating_sub(1));
        if reversed && beyond > 0 {
            let last = seen.narrow(axis, length - 1, 1)?;
            let mut parts = vec![seen.narrow(axis, beyond, length - beyond)?];
            parts.resize(1 + beyond, last);
            seen = Tensor::cat(&parts, axis)?;
        }
    }
    Ok(seen)
}

fn kernel_view(view: Dihedral) -> View {
    View {
        flip: view.flip,
        turns: view.turns,
    }
}

/// Classification heads are averaged as probabilities, regression heads as raw values.
fn activation(head: &Head) -> Activation {
    match (head.is_classification(), head.channels) {
        (false, _) => Activation::Identity,
        (true, 1) => Activation::Sigmoid,
        (true, _) => Activation::Softmax,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    use crate::head::{Equivariance, HeadKind};
    use crate::maps::Prediction;
    use crate::model::SegmentationModel;

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

    #[test]
    fn every_view_of_a_coarse_map_is_of_the_same_pixels() {
        for grid in [1, 2, 4] {
            let sampled = Sampled {
                heads: [Head {
                    name: "image",
                    channels: 1,
                    kind: HeadKind::Regression(Equivariance::Scalar),
                }],
                grid,
            };
            let network = Network {
                model: Box::new(sampled),
                params: ParamSet::new([], |_| crate::params::Role::Weight).unwrap(),
                grid,
            };
            let pixels = (0..8 * 16).map(|i| (i * 37 % 101) as f32);
            let image = Tensor::from_iter(pixels, &Device::Cpu).unwrap();
            let image = image.reshape((1, 1, 8, 16)).unwrap();
            let alone = network.model.forward(&image, Mode::Eval).unwrap();
            let views = Dihedral::views(8).unwrap();
            let label = label(&network, &views, &image).unwrap();
            let numbers = |map: &Tensor| map.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(label.mean[0].dims(), [1, 1, 8 / grid, 16 / grid]);
            for (mean, alone) in numbers(&label.mean[0]).iter().zip(numbers(&alone.heads[0])) {
                assert!((mean - alone).abs() < 1e-4, "grid {grid}: {mean}, {alone}");
            }
            assert!(numbers(&label.spread[0]).iter().all(|s| s.abs() < 1e-3));
        }
    }
}
