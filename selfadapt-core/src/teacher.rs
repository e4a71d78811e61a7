//! The teacher: a moving average of the student that labels crops by averaging over views.

use candle_core::Tensor;
use selfadapt_kernels::ema::ema;
use selfadapt_kernels::views::{Activation, ViewsMerge};

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
        let seen = network.seen(images, *view)?;
        let prediction = network.model.forward(&seen, Mode::Eval)?;
        for ((head, map), merge) in heads.iter().zip(&prediction.heads).zip(&mut merges) {
            merge.push(map, view.kernel(), &view.inverse().channel_map(head)?)?;
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

    use crate::network::fixtures::sampled;

    #[test]
    fn every_view_of_a_coarse_map_is_of_the_same_pixels() {
        for grid in [1, 2, 4] {
            let network = sampled(grid);
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
