//! Which layers a PanopticNet has: one list for building the network and for reading and writing its files.

use super::MesmerConfig;

/// A convolution with zero padding `side / 2`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Its layer's name in the original.
    pub name: String,
    /// Channels that it reads.
    pub inputs: usize,
    /// Channels that it writes.
    pub outputs: usize,
    /// Side of its kernels.
    pub side: usize,
    /// Pixels from one output to the next.
    pub stride: usize,
}

/// A residual block of the backbone (`C` is [`Convolution`], or the layer built of it).
#[derive(Clone, Debug)]
pub struct Block<C> {
    /// 1 x 1, 3 x 3 and 1 x 1, a ReLU between them.
    pub convs: [C; 3],
    /// What brings the block's input to the size of its output; none where it has that size already.
    pub shortcut: Option<C>,
}

/// A semantic head.
#[derive(Clone, Debug)]
pub struct SemanticHead<C> {
    /// One at each of the scales 1/8, 1/4 and 1/2, upsampled by two behind each.
    pub upsample: [C; 3],
    /// Two of 1 x 1, a ReLU between them.
    pub last: [C; 2],
}

/// All layers of the network but the batch norm behind the stem.
#[derive(Clone, Debug)]
pub struct Plan<C> {
    /// From image channels and location to the channels of the stem.
    pub channels: C,
    /// 7 x 7, stride 2.
    pub stem: C,
    /// The four stages of ResNet.
    pub stages: [Vec<Block<C>>; 4],
    /// What reduces the last three stages to the channels of the pyramid, deepest first.
    pub reduced: [C; 3],
    /// The pyramid's map at 1/8.
    pub pyramid: C,
    /// The heads `semantic_0` to `semantic_3`.
    pub heads: [SemanticHead<C>; 4],
}

/// Name of the batch norm behind the stem, the only one that conversion to ONNX leaves.
pub const STEM_NORM: &str = "conv1_bn";

/// Channels that the four heads write.
pub const HEAD_CHANNELS: [usize; 4] = [1, 3, 1, 3];

/// How often a block multiplies its channels.
const EXPANSION: usize = 4;

/// Channels of the stem's input: that of the ResNet for photographs.
const STEM_INPUTS: usize = 3;

impl Plan<Convolution> {
    /// The layers of the network that `config` describes.
    pub fn of(config: &MesmerConfig) -> Self {
        let conv = |name: String, inputs, outputs, side, stride| Convolution {
            name,
            inputs,
            outputs,
            side,
            stride,
        };
        let mut inputs = config.filters;
        let mut widths = [0; 4];
        let mut stage = |n: usize| {
            let filters = config.filters << n;
            let outputs = filters * EXPANSION;
            let blocks = (1..=config.blocks[n]).map(|block| {
                let name = |part: usize| format!("conv{}_block{block}_{part}_conv", n + 2);
                let first = block == 1;
                // The stem has halved the image twice already.
                let stride = if first && n > 0 { 2 } else { 1 };
                let from = if first { inputs } else { outputs };
                Block {
                    convs: [
                        conv(name(1), from, filters, 1, stride),
                        conv(name(2), filters, filters, 3, 1),
                        conv(name(3), filters, outputs, 1, 1),
                    ],
                    shortcut: first.then(|| conv(name(0), from, outputs, 1, stride)),
                }
            });
            let blocks: Vec<_> = blocks.collect();
            inputs = outputs;
            widths[n] = outputs;
            blocks
        };
        let stages = [stage(0), stage(1), stage(2), stage(3)];
        let pyramid = config.pyramid;
        let reduced = |level: usize| {
            conv(
                format!("C{level}_reduced"),
                widths[level - 2],
                pyramid,
                1,
                1,
            )
        };
        let head = |n: usize| {
            let name = |step: usize| format!("conv_{step}_semantic_upsample_{n}");
            let (features, dense) = (config.semantic, config.dense);
            SemanticHead {
                upsample: [
                    conv(name(0), pyramid, features, 3, 1),
                    conv(name(1), features, features, 3, 1),
                    conv(name(2), features, features, 3, 1),
                ],
                last: [
                    conv(format!("conv_0_semantic_{n}"), features, dense, 1, 1),
                    conv(
                        format!("conv_1_semantic_{n}"),
                        dense,
                        HEAD_CHANNELS[n],
                        1,
                        1,
                    ),
                ],
            }
        };
        Self {
            // Two channels of the image and two of the location.
            channels: conv("conv_channels".to_owned(), 4, STEM_INPUTS, 1, 1),
            stem: conv("conv1_conv".to_owned(), STEM_INPUTS, config.filters, 7, 2),
            stages,
            reduced: [reduced(5), reduced(4), reduced(3)],
            pyramid: conv("P3".to_owned(), pyramid, pyramid, 3, 1),
            heads: [head(0), head(1), head(2), head(3)],
        }
    }
}

impl<C> Plan<C> {
    /// Every layer, from the image to the heads.
    pub fn layers(&self) -> impl Iterator<Item = &C> {
        let blocks = self.stages.iter().flatten();
        let heads = self.heads.iter();
        [&self.channels, &self.stem]
            .into_iter()
            .chain(blocks.flat_map(|block| block.convs.iter().chain(&block.shortcut)))
            .chain(&self.reduced)
            .chain([&self.pyramid])
            .chain(heads.flat_map(|head| head.upsample.iter().chain(&head.last)))
    }

    /// The same network with another thing in each layer's place.
    ///
    /// # Errors
    /// The first that `make` returns.
    pub fn try_map<D, E>(&self, mut make: impl FnMut(&C) -> Result<D, E>) -> Result<Plan<D>, E> {
        let mut stages = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
        let channels = make(&self.channels)?;
        let stem = make(&self.stem)?;
        for (to, from) in stages.iter_mut().zip(&self.stages) {
            for block in from {
                let [a, b, c] = &block.convs;
                to.push(Block {
                    convs: [make(a)?, make(b)?, make(c)?],
                    shortcut: block.shortcut.as_ref().map(&mut make).transpose()?,
                });
            }
        }
        let [c5, c4, c3] = &self.reduced;
        let reduced = [make(c5)?, make(c4)?, make(c3)?];
        let pyramid = make(&self.pyramid)?;
        let mut head = |head: &SemanticHead<C>| -> Result<SemanticHead<D>, E> {
            let ([a, b, c], [d, e]) = (&head.upsample, &head.last);
            Ok(SemanticHead {
                upsample: [make(a)?, make(b)?, make(c)?],
                last: [make(d)?, make(e)?],
            })
        };
        let [h0, h1, h2, h3] = &self.heads;
        Ok(Plan {
            channels,
            stem,
            stages,
            reduced,
            pyramid,
            heads: [head(h0)?, head(h1)?, head(h2)?, head(h3)?],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_network_has_78_convolutions_and_26_million_weights() {
        let plan = Plan::of(&MesmerConfig::default());
        assert_eq!(plan.layers().count(), 78);
        let weights = |conv: &Convolution| conv.outputs * (conv.inputs * conv.side.pow(2) + 1);
        let total: usize = plan.layers().map(weights).sum();
        // Less the grid of locations, and more the four numbers a channel of the batch norm: see the assets.
        assert_eq!(total, 26_041_002 - 131_072 - 4 * 64 - 19);
        assert_eq!(plan.stages[1][0].convs[0].stride, 2);
        assert_eq!(plan.stages[1][0].shortcut.as_ref().unwrap().stride, 2);
        assert_eq!(plan.stages[0][0].convs[0].stride, 1);
        let names = plan.try_map(|conv| Ok::<_, ()>(conv.name.clone())).unwrap();
        assert!(names.layers().eq(plan.layers().map(|conv| &conv.name)));
    }
}
