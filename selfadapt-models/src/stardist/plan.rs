//! The convolutions of a StarDist network in their order, with Keras' names: for building, reading and writing.

use super::{Activation, StarDistConfig};

/// One convolution: what it is called and how large it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// Keras' name of the layer.
    pub name: String,
    /// Channels of its input.
    pub inputs: usize,
    /// Channels of its output.
    pub outputs: usize,
    /// Side of its kernel.
    pub side: usize,
    /// Keras' name of the batch normalisation that follows, where there is one.
    pub norm: Option<String>,
    /// What comes last.
    pub activation: Activation,
}

/// The parts of the network (`StarDist2D._build` and csbdeep's `unet_block`), of layers `L`.
#[derive(Clone, Debug)]
pub struct Plan<L> {
    /// Before each pooling by two that leads to the grid.
    pub before: Vec<Vec<L>>,
    /// Each level of the encoder, from the first.
    pub down: Vec<Vec<L>>,
    /// The bottleneck.
    pub middle: Vec<L>,
    /// Each level of the decoder, from the deepest.
    pub up: Vec<Vec<L>>,
    /// After the U-Net, where there is one.
    pub features: Option<L>,
    /// Object probability.
    pub prob: L,
    /// Distances along the rays.
    pub dist: L,
}

impl Plan<Convolution> {
    /// The plan of a configuration that was checked.
    pub fn of(config: &StarDistConfig) -> Self {
        let mut writer = Writer {
            config,
            channels: config.n_channel_in,
            plain: 0,
            norms: 0,
        };
        let (count, depth) = (config.unet_n_conv_per_depth, config.unet_n_depth);
        let base = config.unet_n_filter_base;
        let level = |n: usize| base << n;
        let mut before = Vec::new();
        for _ in 0..config.grid.trailing_zeros() {
            before.push((0..count).map(|_| writer.plain()).collect());
        }
        let mut down = Vec::new();
        for n in 0..depth {
            let convs = (0..count)
                .map(|i| writer.unet(format!("down_level_{n}_no_{i}"), level(n), false))
                .collect();
            down.push(convs);
        }
        let mut middle: Vec<Convolution> = (0..count - 1)
            .map(|i| writer.unet(format!("middle_{i}"), level(depth), false))
            .collect();
        let last = level(depth.saturating_sub(1));
        middle.push(writer.unet(format!("middle_{count}"), last, false));
        let mut up = Vec::new();
        for n in (0..depth).rev() {
            // The encoder's map joins in behind the upsampled one.
            writer.channels += level(n);
            let mut convs: Vec<Convolution> = (0..count - 1)
                .map(|i| writer.unet(format!("up_level_{n}_no_{i}"), level(n), false))
                .collect();
            let name = format!("up_level_{n}_no_{count}");
            convs.push(writer.unet(name, level(n.saturating_sub(1)), n == 0));
            up.push(convs);
        }
        let features = (config.net_conv_after_unet > 0).then(|| {
            let side = config.unet_kernel_size;
            writer.convolution(
                "features".to_owned(),
                config.net_conv_after_unet,
                side,
                config.unet_activation,
            )
        });
        let channels = writer.channels;
        let mut head = |name: &str, outputs| {
            writer.channels = channels;
            writer.convolution(name.to_owned(), outputs, 1, Activation::Linear)
        };
        Self {
            before,
            down,
            middle,
            up,
            features,
            prob: head("prob", 1),
            dist: head("dist", config.n_rays),
        }
    }
}

impl<L> Plan<L> {
    /// All layers in Keras' order.
    pub fn layers(&self) -> impl Iterator<Item = &L> {
        let first = self.before.iter().chain(&self.down).flatten();
        first
            .chain(&self.middle)
            .chain(self.up.iter().flatten())
            .chain(&self.features)
            .chain([&self.prob, &self.dist])
    }

    /// The same plan of what `make` makes of each layer, in Keras' order.
    ///
    /// # Errors
    /// The first error of `make`.
    pub fn try_map<M, E>(&self, mut make: impl FnMut(&L) -> Result<M, E>) -> Result<Plan<M>, E> {
        let mut all = |layers: &[L]| layers.iter().map(&mut make).collect::<Result<Vec<M>, E>>();
        let mut levels = |levels: &[Vec<L>]| levels.iter().map(|l| all(l)).collect();
        let (before, down): (Result<Vec<Vec<M>>, E>, _) =
            (levels(&self.before), levels(&self.down));
        let (before, down) = (before?, down?);
        let middle = self
            .middle
            .iter()
            .map(&mut make)
            .collect::<Result<_, E>>()?;
        let mut up = Vec::new();
        for level in &self.up {
            up.push(level.iter().map(&mut make).collect::<Result<_, E>>()?);
        }
        Ok(Plan {
            before,
            down,
            middle,
            up,
            features: self.features.as_ref().map(&mut make).transpose()?,
            prob: make(&self.prob)?,
            dist: make(&self.dist)?,
        })
    }
}

/// Names and counts layers as Keras does.
struct Writer<'a> {
    config: &'a StarDistConfig,
    /// Channels that come out of the last layer.
    channels: usize,
    /// Convolutions without a name of their own so far.
    plain: usize,
    /// Batch normalisations so far.
    norms: usize,
}

impl Writer<'_> {
    fn convolution(
        &mut self,
        name: String,
        outputs: usize,
        side: usize,
        activation: Activation,
    ) -> Convolution {
        let inputs = std::mem::replace(&mut self.channels, outputs);
        Convolution {
            name,
            inputs,
            outputs,
            side,
            norm: None,
            activation,
        }
    }

    /// A convolution before the U-Net, which Keras names by itself.
    fn plain(&mut self) -> Convolution {
        let name = numbered("conv2d", self.plain);
        self.plain += 1;
        let config = self.config;
        self.convolution(
            name,
            config.unet_n_filter_base,
            config.unet_kernel_size,
            config.unet_activation,
        )
    }

    /// A convolution of the U-Net.
    fn unet(&mut self, name: String, outputs: usize, last: bool) -> Convolution {
        let config = self.config;
        let activation = if last {
            config.unet_last_activation
        } else {
            config.unet_activation
        };
        let name = format!("{}{name}", config.unet_prefix);
        let mut layer = self.convolution(name, outputs, config.unet_kernel_size, activation);
        if config.unet_batch_norm {
            layer.norm = Some(numbered("batch_normalization", self.norms));
            self.norms += 1;
        }
        layer
    }
}

/// Keras' automatic names: `conv2d`, `conv2d_1`, ...
fn numbered(kind: &str, number: usize) -> String {
    if number == 0 {
        kind.to_owned()
    } else {
        format!("{kind}_{number}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_plan_is_that_of_stardist() {
        let plan = Plan::of(&StarDistConfig::default());
        let shapes: Vec<String> = plan
            .layers()
            .map(|l| format!("{} {} {} {}", l.name, l.side, l.inputs, l.outputs))
            .collect();
        assert_eq!(
            shapes,
            [
                "conv2d 3 1 32",
                "conv2d_1 3 32 32",
                "down_level_0_no_0 3 32 32",
                "down_level_0_no_1 3 32 32",
                "down_level_1_no_0 3 32 64",
                "down_level_1_no_1 3 64 64",
                "down_level_2_no_0 3 64 128",
                "down_level_2_no_1 3 128 128",
                "middle_0 3 128 256",
                "middle_2 3 256 128",
                "up_level_2_no_0 3 256 128",
                "up_level_2_no_2 3 128 64",
                "up_level_1_no_0 3 128 64",
                "up_level_1_no_2 3 64 32",
                "up_level_0_no_0 3 64 32",
                "up_level_0_no_2 3 32 32",
                "features 3 32 128",
                "prob 1 128 1",
                "dist 1 128 32",
            ]
        );
    }

    #[test]
    fn norms_follow_the_convolutions_of_the_unet_alone() {
        let config = StarDistConfig {
            unet_batch_norm: true,
            unet_n_depth: 1,
            unet_prefix: "u_".to_owned(),
            net_conv_after_unet: 0,
            ..StarDistConfig::default()
        };
        let plan = Plan::of(&config);
        let names: Vec<String> = plan
            .layers()
            .map(|l| format!("{} {}", l.name, l.norm.as_deref().unwrap_or("-")))
            .collect();
        assert_eq!(
            names,
            [
                "conv2d -",
                "conv2d_1 -",
                "u_down_level_0_no_0 batch_normalization",
                "u_down_level_0_no_1 batch_normalization_1",
                "u_middle_0 batch_normalization_2",
                "u_middle_2 batch_normalization_3",
                "u_up_level_0_no_0 batch_normalization_4",
                "u_up_level_0_no_2 batch_normalization_5",
                "prob -",
                "dist -",
            ]
        );
    }
}
