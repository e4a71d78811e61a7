//! The network of StarDist 2D: pooling to the grid, a U-Net, and two heads.

use candle_core::backprop::GradStore;
use candle_core::{Result as TensorResult, Tensor};
use candle_nn::VarBuilder;
use selfadapt_core::error::Result;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::lengths::Lengths;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, SegmentationModel};

use super::plan::{Convolution, Plan};
use super::{Activation, StarDistConfig};
use crate::layers::{BatchNorm, Conv2d, max_pool_2x2, upsample_2x};

/// Share of the newest batch in Keras' running estimates, and what it adds to variances.
const NORM: (f64, f64) = (0.01, 1e-3);

/// Pixels of one image beyond which those of a batch go through the network one by one, to bound the memory.
const ALONE: usize = 512 * 512;

/// A convolution, batch norm where there is one, and what follows.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) conv: Conv2d,
    norm: Option<BatchNorm>,
    activation: Activation,
}

impl Layer {
    fn load(plan: &Convolution, weights: &VarBuilder) -> TensorResult<Self> {
        let conv = Conv2d::load(
            plan.inputs,
            plan.outputs,
            plan.side,
            &weights.pp(&plan.name),
        )?;
        let norm = |name| BatchNorm::load(plan.outputs, NORM.0, NORM.1, &weights.pp(name));
        Ok(Self {
            conv,
            norm: plan.norm.as_ref().map(norm).transpose()?,
            activation: plan.activation,
        })
    }

    fn apply(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let y = self.conv.apply(x)?;
        let relu = self.activation == Activation::Relu;
        let (y, done) = match &self.norm {
            Some(norm) => (norm.apply(&y, mode, relu)?, relu),
            None => (y, false),
        };
        match self.activation {
            Activation::Linear => Ok(y),
            Activation::Relu if done => Ok(y),
            Activation::Relu => y.relu(),
            Activation::Elu => y.elu(1.),
        }
    }
}

fn through(layers: &[Layer], x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
    layers
        .iter()
        .try_fold(x.clone(), |x, layer| layer.apply(&x, mode))
}

/// The network: images `[B, C, H, W]` to the logit of being inside an object, highest at its middle, and the distances
/// in pixels to its border, both at every `grid`-th pixel.
#[derive(Clone, Debug)]
pub struct StarNet {
    pub(super) plan: Plan<Layer>,
    /// How often each level halves the image.
    halvings: u32,
    /// Whether all but the heads are convolutions and ReLUs alone, a level halving once.
    pub(super) rectified: bool,
    heads: [Head; 2],
}

impl StarNet {
    /// Asks for every weight of the network that `config` describes.
    ///
    /// # Errors
    /// If a weight is missing or misshaped.
    pub fn load(config: &StarDistConfig, weights: &VarBuilder) -> Result<Self> {
        let plan = Plan::of(config).try_map(|layer| Layer::load(layer, weights))?;
        let relus = [config.unet_activation, config.unet_last_activation];
        Ok(Self {
            plan,
            rectified: relus == [Activation::Relu; 2]
                && !config.unet_batch_norm
                && config.unet_pool == 2,
            halvings: config.unet_pool.trailing_zeros(),
            heads: [
                Head {
                    name: "prob",
                    channels: 1,
                    kind: HeadKind::Classification,
                },
                Head {
                    name: "dist",
                    channels: config.n_rays,
                    kind: HeadKind::Regression(Equivariance::Rays),
                },
            ],
        })
    }

    fn pass(&self, images: &Tensor, mode: Mode) -> TensorResult<[Tensor; 3]> {
        if !self.is_tracked() && self.is_fused(images) {
            return self.predict(images);
        }
        let plan = &self.plan;
        let mut x = images.clone();
        for layers in &plan.before {
            x = max_pool_2x2(&through(layers, &x, mode)?)?;
        }
        let mut skips = Vec::with_capacity(plan.down.len());
        for layers in &plan.down {
            let skip = through(layers, &x, mode)?;
            x = skip.clone();
            for _ in 0..self.halvings {
                x = max_pool_2x2(&x)?;
            }
            skips.push(skip);
        }
        x = through(&plan.middle, &x, mode)?;
        let embedding = x.mean((2, 3))?;
        for (layers, skip) in plan.up.iter().zip(skips.iter().rev()) {
            for _ in 0..self.halvings {
                x = upsample_2x(&x)?;
            }
            x = through(layers, &Tensor::cat(&[&x, skip], 1)?, mode)?;
        }
        if let Some(features) = &plan.features {
            x = features.apply(&x, mode)?;
        }
        Ok([
            plan.prob.apply(&x, mode)?,
            plan.dist.apply(&x, mode)?,
            embedding,
        ])
    }
}

impl SegmentationModel for StarNet {
    fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn lengths(&self) -> Option<Lengths> {
        Some(Lengths {
            head: 1,
            weights: &["dist.weight", "dist.bias"],
        })
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Prediction> {
        let (batch, _, height, width) = images.dims4()?;
        // Batch statistics need the whole batch at once.
        let one_by_one = mode == Mode::Eval && batch > 1 && height * width > ALONE;
        let [prob, dist, embedding] = if one_by_one {
            let parts = (0..batch)
                .map(|n| self.pass(&images.narrow(0, n, 1)?, mode))
                .collect::<TensorResult<Vec<_>>>()?;
            let joined = |which: usize| {
                let parts: Vec<&Tensor> = parts.iter().map(|part| &part[which]).collect();
                Tensor::cat(&parts, 0)
            };
            [joined(0)?, joined(1)?, joined(2)?]
        } else {
            self.pass(images, mode)?
        };
        Ok(Prediction {
            heads: vec![prob, dist],
            embedding,
        })
    }
    fn backward(
        &self,
        images: &Tensor,
        mode: Mode,
        loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>,
    ) -> Result<GradStore> {
        if self.is_tracked() && self.is_fused(images) {
            return self.differentiate(images, loss);
        }
        let prediction = self.forward(images, mode)?;
        Ok(loss(&prediction)?.backward()?)
    }
}
