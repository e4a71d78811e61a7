//! The network of Mesmer: a ResNet50 on image and location, a feature pyramid, and four semantic heads.

use candle_core::{DType, Device, Result as TensorResult, Tensor, bail};
use candle_nn::VarBuilder;
use selfadapt_core::error::Result;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, SegmentationModel};
use selfadapt_kernels::conv2d::{Algorithm, conv2d};
use selfadapt_kernels::max_pool::max_pool2d;
use selfadapt_kernels::upsample::bilinear;

use super::MesmerConfig;
use super::plan::{Block, Convolution, HEAD_CHANNELS, Plan, STEM_NORM, SemanticHead};
use crate::fused::FilterCache;
use crate::layers::BatchNorm;

/// Share of the newest batch in Keras' running estimates, and what the ResNet of Keras adds to variances.
const NORM: (f64, f64) = (0.01, 1.001e-5);

/// Names of the heads, in the original's order.
const NAMES: [&str; 4] = [
    "whole-cell distance",
    "whole-cell classes",
    "nuclear distance",
    "nuclear classes",
];

/// A convolution with zero padding, at any stride.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    pub weight: Tensor,
    pub bias: Tensor,
    pub stride: usize,
    /// Where the network runs without a graph.
    pub filters: FilterCache,
}

impl Conv {
    fn load(plan: &Convolution, weights: &VarBuilder) -> TensorResult<Self> {
        let weights = weights.pp(&plan.name);
        let shape = (plan.outputs, plan.inputs, plan.side, plan.side);
        Ok(Self {
            weight: weights.get(shape, "weight")?,
            bias: weights.get(plan.outputs, "bias")?,
            stride: plan.stride,
            filters: FilterCache::default(),
        })
    }

    fn apply(&self, x: &Tensor) -> TensorResult<Tensor> {
        conv2d(
            x,
            &self.weight,
            Some(&self.bias),
            self.stride,
            Algorithm::Auto,
        )
    }
}

/// The network: images `[B, 2, H, W]` (nuclear, membrane) to, for cells and for nuclei, the distance to an object's
/// middle (1 there, falling outwards) and the logits of border, interior and background, all at the image's size.
#[derive(Clone, Debug)]
pub struct PanopticNet {
    pub(super) plan: Plan<Conv>,
    pub(super) norm: BatchNorm,
    heads: [Head; 4],
}

impl PanopticNet {
    /// Asks for every weight of the network that `config` describes.
    ///
    /// # Errors
    /// If a weight is missing or misshaped.
    pub fn load(config: &MesmerConfig, weights: &VarBuilder) -> Result<Self> {
        let plan = Plan::of(config).try_map(|conv| Conv::load(conv, weights))?;
        let norm = BatchNorm::load(config.filters, NORM.0, NORM.1, &weights.pp(STEM_NORM))?;
        let head = |n: usize| Head {
            name: NAMES[n],
            channels: HEAD_CHANNELS[n],
            kind: if HEAD_CHANNELS[n] == 1 {
                HeadKind::Regression(Equivariance::Scalar)
            } else {
                HeadKind::Classification
            },
        };
        Ok(Self {
            plan,
            norm,
            heads: [head(0), head(1), head(2), head(3)],
        })
    }

    /// From images to the maps at a quarter of their size that the residual blocks start from.
    pub(super) fn stem(&self, images: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let (_, _, height, width) = images.dims4()?;
        let divisor = MesmerConfig::DIVISOR;
        if height % divisor + width % divisor != 0 || height * width == 0 {
            bail!("Mesmer: expected sides that are multiples of {divisor}, got {height} x {width}")
        }
        let x = Tensor::cat(&[images, &location(images)?], 1)?;
        let x = self.plan.stem.apply(&self.plan.channels.apply(&x)?)?;
        let x = self.norm.apply(&x, mode, true)?;
        // What is padded is not negative, so that zeros do not win.
        let x = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        max_pool2d(&x, 3, 2)
    }

    fn pass(&self, images: &Tensor, mode: Mode) -> TensorResult<Prediction> {
        let plan = &self.plan;
        let mut x = self.stem(images, mode)?;
        let mut stages = Vec::with_capacity(plan.stages.len());
        for blocks in &plan.stages {
            for block in blocks {
                x = residual(block, &x)?;
            }
            stages.push(x.clone());
        }
        let embedding = x.mean((2, 3))?;
        let mut merged: Option<Tensor> = None;
        for (reduce, stage) in plan.reduced.iter().zip(stages.iter().rev()) {
            let reduced = reduce.apply(stage)?;
            merged = Some(match merged {
                Some(deeper) => (reduced + doubled(&deeper)?)?,
                None => reduced,
            });
        }
        let pyramid = match merged {
            Some(merged) => plan.pyramid.apply(&merged)?,
            None => x,
        };
        let heads = plan.heads.iter().zip(&self.heads);
        let heads = heads.map(|(layers, head)| semantic(layers, head, &pyramid));
        Ok(Prediction {
            heads: heads.collect::<TensorResult<_>>()?,
            embedding,
        })
    }
}

fn residual(block: &Block<Conv>, x: &Tensor) -> TensorResult<Tensor> {
    let [first, second, third] = &block.convs;
    let y = first.apply(x)?.relu()?;
    let y = third.apply(&second.apply(&y)?.relu()?)?;
    match &block.shortcut {
        Some(shortcut) => (shortcut.apply(x)? + y)?.relu(),
        None => (x + y)?.relu(),
    }
}

fn semantic(layers: &SemanticHead<Conv>, head: &Head, pyramid: &Tensor) -> TensorResult<Tensor> {
    let [first, second, third] = &layers.upsample;
    let [dense, last] = &layers.last;
    let x = doubled(&first.apply(pyramid)?)?;
    let x = doubled(&second.apply(&x)?)?;
    // The original doubles before `dense`; since both are linear and one works along channels, the other along pixels,
    // they may change places, and `dense` has a quarter of the pixels to see.
    let x = doubled(&dense.apply(&third.apply(&x)?)?)?;
    let y = last.apply(&x.relu()?)?;
    // The original's distances end in a ReLU and were trained through it.
    if head.is_classification() {
        Ok(y)
    } else {
        y.relu()
    }
}

fn doubled(x: &Tensor) -> TensorResult<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    bilinear(x, 2 * height, 2 * width)
}

/// Where each pixel lies, `[B, 2, H, W]`: row and column from 0 at the first to 1 at the last one.
pub(super) fn location(images: &Tensor) -> TensorResult<Tensor> {
    let (batch, _, height, width) = images.dims4()?;
    let axis = |length: usize| {
        let last = length.saturating_sub(1).max(1) as f32;
        let steps = (0..length).map(|at| at as f32 / last).collect::<Vec<_>>();
        Tensor::from_vec(steps, length, &Device::Cpu)
    };
    let shape = (batch, 1, height, width);
    let rows = axis(height)?
        .reshape((1, 1, height, 1))?
        .broadcast_as(shape)?;
    let columns = axis(width)?
        .reshape((1, 1, 1, width))?
        .broadcast_as(shape)?;
    Tensor::cat(&[rows, columns], 1)?
        .to_dtype(DType::F32)?
        .to_device(images.device())
}

impl SegmentationModel for PanopticNet {
    fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Prediction> {
        if mode == Mode::Eval && self.is_plain(images) {
            return Ok(self.predict(images, &self.heads)?);
        }
        Ok(self.pass(images, mode)?)
    }
}
