//! CPnet, the residual U-Net of Cellpose 2 and 3, with that package's names of weights.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use candle_core::backprop::GradStore;
use candle_core::{Result as TensorResult, Tensor};
use candle_nn::VarBuilder;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::foreground::Foreground;
use selfadapt_core::head::{Equivariance, Head, HeadKind};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::{Mode, SegmentationModel};
use selfadapt_kernels::conv2d::Algorithm;
use selfadapt_kernels::device::Device;

use crate::layers::{BatchNorm, Conv2d, Linear, max_pool_2x2, upsample_2x};

/// Batch norm, ReLU (not in projections), convolution (`batchconv`, `batchconv0`).
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub norm: BatchNorm,
    pub relu: bool,
    pub conv: Conv2d,
}

impl Block {
    fn load(inputs: usize, outputs: usize, side: usize, vb: &VarBuilder) -> TensorResult<Self> {
        Ok(Self {
            norm: BatchNorm::load(inputs, 0.05, 1e-5, &vb.pp("0"))?,
            relu: true,
            conv: Conv2d::load(inputs, outputs, side, &vb.pp("2"))?,
        })
    }

    fn projection(inputs: usize, outputs: usize, vb: &VarBuilder) -> TensorResult<Self> {
        Ok(Self {
            norm: BatchNorm::load(inputs, 0.05, 1e-5, &vb.pp("0"))?,
            relu: false,
            conv: Conv2d::load(inputs, outputs, 1, &vb.pp("1"))?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        self.conv.apply(&self.norm.apply(x, mode, self.relu)?)
    }
}

/// One level of the encoder (`resdown`).
#[derive(Clone, Debug)]
pub(super) struct Down {
    pub proj: Block,
    pub conv: [Block; 4],
}

impl Down {
    fn load(inputs: usize, outputs: usize, vb: &VarBuilder) -> TensorResult<Self> {
        let block = |n: usize, inputs| {
            Block::load(inputs, outputs, 3, &vb.pp("conv").pp(format!("conv_{n}")))
        };
        Ok(Self {
            proj: Block::projection(inputs, outputs, &vb.pp("proj"))?,
            conv: [
                block(0, inputs)?,
                block(1, outputs)?,
                block(2, outputs)?,
                block(3, outputs)?,
            ],
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let [first, second, third, fourth] = &self.conv;
        let deep = second.forward(&first.forward(x, mode)?, mode)?;
        let x = (self.proj.forward(x, mode)? + deep)?;
        let deep = fourth.forward(&third.forward(&x, mode)?, mode)?;
        x + deep
    }
}

/// A block whose input is shifted, per channel, by a linear map of the style (`batchconvstyle`).
#[derive(Clone, Debug)]
pub(super) struct Styled {
    pub full: Linear,
    pub block: Block,
}

impl Styled {
    fn load(channels: usize, styles: usize, vb: &VarBuilder) -> TensorResult<Self> {
        Ok(Self {
            full: Linear::load(styles, channels, &vb.pp("full"))?,
            block: Block::load(channels, channels, 3, &vb.pp("conv"))?,
        })
    }

    fn forward(&self, x: &Tensor, style: &Tensor, mode: Mode) -> TensorResult<Tensor> {
        let shift = self.full.apply(style)?.unsqueeze(2)?.unsqueeze(3)?;
        self.block.forward(&x.broadcast_add(&shift)?, mode)
    }
}

/// One level of the decoder (`resup`).
#[derive(Clone, Debug)]
pub(super) struct Up {
    pub proj: Block,
    pub first: Block,
    pub styled: [Styled; 3],
}

impl Up {
    fn load(inputs: usize, outputs: usize, styles: usize, vb: &VarBuilder) -> TensorResult<Self> {
        let conv = vb.pp("conv");
        let styled = |n: usize| Styled::load(outputs, styles, &conv.pp(format!("conv_{n}")));
        Ok(Self {
            proj: Block::projection(inputs, outputs, &vb.pp("proj"))?,
            first: Block::load(inputs, outputs, 3, &conv.pp("conv_0"))?,
            styled: [styled(1)?, styled(2)?, styled(3)?],
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        skip: &Tensor,
        style: &Tensor,
        mode: Mode,
    ) -> TensorResult<Tensor> {
        let [first, second, third] = &self.styled;
        let deep = (self.first.forward(x, mode)? + skip)?;
        let x = (self.proj.forward(x, mode)? + first.forward(&deep, style, mode)?)?;
        let deep = third.forward(&second.forward(&x, style, mode)?, style, mode)?;
        x + deep
    }
}

/// The network (`CPnet`): images `[B, C, H, W]` to flows (dY, dX), five times their unit length, and the
/// logit of being in a cell.
#[derive(Clone, Debug)]
pub struct CpNet {
    pub(super) down: Vec<Down>,
    pub(super) up: Vec<Up>,
    pub(super) output: Block,
    heads: [Head; 2],
    /// What it computes on.
    pub(super) device: Device,
    /// The most images that a forward pass may have, once the device's memory was full.
    pub(super) fits: Arc<AtomicUsize>,
}

impl CpNet {
    /// Asks for every weight of a network with `nbase` channels: the input's, then each level's.
    ///
    /// # Errors
    /// If a weight is missing or misshaped, or there is no level.
    pub fn load(nbase: &[usize], vb: &VarBuilder) -> Result<Self> {
        let (&[input, shallowest, ..], Some(&deepest)) = (nbase, nbase.last()) else {
            return Err(Error::Setting(format!(
                "nbase: expected the input's channels and those of at least one level, found {nbase:?}"
            )));
        };
        let levels = &nbase[1..];
        let (mut down, mut up) = (Vec::new(), Vec::new());
        for (n, &channels) in levels.iter().enumerate() {
            let above = if n == 0 { input } else { levels[n - 1] };
            let below = levels.get(n + 1).copied().unwrap_or(deepest);
            let name = vb.pp(format!("downsample.down.res_down_{n}"));
            down.push(Down::load(above, channels, &name)?);
            let name = vb.pp(format!("upsample.up.res_up_{n}"));
            up.push(Up::load(below, channels, deepest, &name)?);
        }
        Ok(Self {
            down,
            up,
            output: Block::load(shallowest, 3, 1, &vb.pp("output"))?,
            heads: [
                Head {
                    name: "flows",
                    channels: 2,
                    kind: HeadKind::Regression(Equivariance::Vector),
                },
                Head {
                    name: "cell probability",
                    channels: 1,
                    kind: HeadKind::Classification,
                },
            ],
            device: Device::cpu(),
            fits: Arc::new(AtomicUsize::new(usize::MAX)),
        })
    }

    /// The network, to compute on `device`.
    #[must_use]
    pub fn on(mut self, device: Device) -> Self {
        let algorithm = Algorithm::on(&device);
        for conv in self.convolutions() {
            conv.algorithm = algorithm;
        }
        self.device = device;
        self
    }

    /// Every convolution.
    fn convolutions(&mut self) -> impl Iterator<Item = &mut Conv2d> {
        let down = self.down.iter_mut();
        let down = down.flat_map(|level| std::iter::once(&mut level.proj).chain(&mut level.conv));
        let up = self.up.iter_mut().flat_map(|level| {
            let styled = level.styled.iter_mut().map(|styled| &mut styled.block);
            [&mut level.proj, &mut level.first]
                .into_iter()
                .chain(styled)
        });
        let blocks = down.chain(up).chain([&mut self.output]);
        blocks.map(|block| &mut block.conv)
    }

    /// The encoder's maps, from the first level to the deepest.
    fn encode(&self, images: &Tensor, mode: Mode) -> TensorResult<Vec<Tensor>> {
        let mut maps: Vec<Tensor> = Vec::with_capacity(self.down.len());
        for level in &self.down {
            let map = match maps.last() {
                None => level.forward(images, mode)?,
                Some(above) => level.forward(&max_pool_2x2(above)?, mode)?,
            };
            maps.push(map);
        }
        Ok(maps)
    }
}

/// A prediction from the network's last map `[B, 3, H, W]`.
pub(super) fn prediction(y: &Tensor, embedding: Tensor) -> TensorResult<Prediction> {
    Ok(Prediction {
        heads: vec![
            y.narrow(1, 0, 2)?.contiguous()?,
            y.narrow(1, 2, 1)?.contiguous()?,
        ],
        embedding,
    })
}

/// The style of Cellpose: an embedding `[B, D]` scaled to length 1.
///
/// # Errors
/// If the tensor has not two axes.
pub fn style(embedding: &Tensor) -> TensorResult<Tensor> {
    embedding.broadcast_div(&embedding.sqr()?.sum_keepdim(1)?.sqrt()?)
}

impl SegmentationModel for CpNet {
    fn heads(&self) -> &[Head] {
        &self.heads
    }

    fn foreground(&self) -> Option<Foreground> {
        Some(Foreground {
            // Flows come first, in the heads and in the numbers of the bias.
            head: 1,
            bias: "output.2.bias",
            index: 2,
        })
    }

    fn forward(&self, images: &Tensor, mode: Mode) -> Result<Prediction> {
        if !self.is_tracked() && self.is_plain(images) {
            return self.predict_within_memory(images, mode);
        }
        self.expect_cpu("a pass that records a graph")?;
        let maps = self.encode(images, mode)?;
        let mut x = maps[maps.len() - 1].clone();
        let embedding = x.mean((2, 3))?;
        let style = style(&embedding)?;
        for (n, (level, skip)) in self.up.iter().zip(&maps).enumerate().rev() {
            if n + 1 < self.up.len() {
                x = upsample_2x(&x)?;
            }
            x = level.forward(&x, skip, &style, mode)?;
        }
        let y = self.output.forward(&x, mode)?;
        Ok(prediction(&y, embedding)?)
    }

    fn backward(
        &self,
        images: &Tensor,
        mode: Mode,
        loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>,
    ) -> Result<GradStore> {
        if self.is_tracked() && self.is_plain(images) {
            return self.differentiate_within_memory(images, mode, loss);
        }
        let prediction = self.forward(images, mode)?;
        Ok(loss(&prediction)?.backward()?)
    }
}
