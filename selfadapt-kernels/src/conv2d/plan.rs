//! Reduces forward convolution and its data gradient, at any stride, to the same walk over strips of rows:
//! a strided gradient is `stride * stride` small convolutions, one for each phase of the pixels it writes.

use super::geometry::Geometry;

/// A convolution of a source that writes a target, of any size.
///
/// The pixel at `(i * out_stride + phase.y.start, j * out_stride + phase.x.start)` of the target is the
/// sum over the phase's taps `a` and `b` of the source pixel
/// `(i * in_stride + phase.y.offset + a, j * in_stride + phase.x.offset + b)` times the weights of that tap.
#[derive(Clone)]
pub(crate) struct Plan {
    /// Channels that are summed over.
    pub source: usize,
    /// Channels that are written.
    pub target: usize,
    pub in_stride: usize,
    pub out_stride: usize,
    pub phases: Vec<Phase>,
    /// The smallest offset of any phase, zero or negative.
    pub first: isize,
    /// Source pixels from the smallest to the largest position that any tap reads for one target pixel.
    pub span: usize,
}

/// The taps of the target pixels that are congruent modulo the stride, and their packed weights.
#[derive(Clone)]
pub(crate) struct Phase {
    pub y: Taps,
    pub x: Taps,
    /// `[column block][y tap][x tap][source channel][columns of the block]`, a block being two vectors of
    /// target channels (the last may be one), zero where there is no channel.
    pub weights: Vec<f32>,
}

/// The taps of one phase along one axis.
#[derive(Clone)]
pub(crate) struct Taps {
    pub start: usize,
    pub offset: isize,
    /// The kernel index of each tap, in the order of the source pixels they read.
    pub kernel: Vec<usize>,
}

impl Plan {
    /// The plan of the convolution itself.
    pub fn forward(geometry: &Geometry, weight: &[f32], lanes: usize) -> Self {
        let kernel = geometry.kernel();
        let taps = vec![Taps {
            start: 0,
            offset: -(geometry.padding() as isize),
            kernel: (0..kernel).collect(),
        }];
        let channels = geometry.in_channels();
        let plan = Self::new(
            channels,
            geometry.out_channels(),
            (geometry.stride(), 1),
            &taps,
        );
        plan.with_weights(lanes, |target, source, y, x| {
            weight[((target * channels + source) * kernel + y) * kernel + x]
        })
    }

    /// The plan of the gradient by the input, whose source is the gradient by the output.
    pub fn backward_data(geometry: &Geometry, weight: &[f32], lanes: usize) -> Self {
        let (kernel, stride) = (geometry.kernel(), geometry.stride());
        let taps: Vec<Taps> = (0..stride)
            .map(|start| {
                // Input pixel `stride * i + start` meets output pixel `i + (start + padding - k) / stride`
                // through kernel index `k` wherever that divides.
                let position = |k: usize| (start + geometry.padding()) as isize - k as isize;
                let kernel: Vec<usize> = (0..kernel)
                    .rev()
                    .filter(|&k| position(k).rem_euclid(stride as isize) == 0)
                    .collect();
                Taps {
                    start,
                    offset: kernel.first().map_or(0, |&k| position(k) / stride as isize),
                    kernel,
                }
            })
            .collect();
        let channels = geometry.in_channels();
        let plan = Self::new(geometry.out_channels(), channels, (1, stride), &taps);
        plan.with_weights(lanes, |target, source, y, x| {
            weight[((source * channels + target) * kernel + y) * kernel + x]
        })
    }

    fn new(
        source: usize,
        target: usize,
        (in_stride, out_stride): (usize, usize),
        taps: &[Taps],
    ) -> Self {
        let first = taps
            .iter()
            .map(|taps| taps.offset)
            .min()
            .unwrap_or(0)
            .min(0);
        let end = taps
            .iter()
            .map(|taps| taps.offset + taps.kernel.len() as isize)
            .max()
            .unwrap_or(0)
            .max(first + 1);
        let phases = taps
            .iter()
            .flat_map(|y| taps.iter().map(move |x| (y, x)))
            .map(|(y, x)| Phase {
                y: y.clone(),
                x: x.clone(),
                weights: Vec::new(),
            })
            .collect();
        Self {
            source,
            target,
            in_stride,
            out_stride,
            phases,
            first,
            span: (end - first) as usize,
        }
    }

    /// Packs `value(target channel, source channel, y, x)` for a vector width.
    fn with_weights(
        mut self,
        lanes: usize,
        value: impl Fn(usize, usize, usize, usize) -> f32,
    ) -> Self {
        let (sources, targets) = (self.source, self.target);
        for phase in &mut self.phases {
            let (taps_y, taps_x) = (&phase.y.kernel, &phase.x.kernel);
            let columns = targets.next_multiple_of(lanes);
            let mut weights = vec![0.0; taps_y.len() * taps_x.len() * sources * columns];
            for block in column_blocks(targets, lanes) {
                let at = taps_y.len() * taps_x.len() * sources * block.start;
                let channels = block.width.min(targets - block.start);
                let mut rows = weights[at..].chunks_exact_mut(block.width);
                for &y in taps_y {
                    for &x in taps_x {
                        for (source, row) in (0..sources).zip(&mut rows) {
                            for (i, weight) in row[..channels].iter_mut().enumerate() {
                                *weight = value(block.start + i, source, y, x);
                            }
                        }
                    }
                }
            }
            phase.weights = weights;
        }
        self
    }

    /// Groups of `out_stride` target rows (or columns): the steps of `i` (or `j`).
    pub fn groups(&self, target_size: usize) -> usize {
        target_size.div_ceil(self.out_stride)
    }

    /// Source pixels that a run of `groups` groups reads along one axis.
    pub fn reach(&self, groups: usize) -> usize {
        (groups.max(1) - 1) * self.in_stride + self.span
    }
}

/// Channels `start..start + width`, `width` being one or two vectors.
#[derive(Clone, Copy)]
pub(crate) struct ColumnBlock {
    pub start: usize,
    pub width: usize,
}

/// Splits channels into blocks of two vectors, the last of one where that is enough.
pub(crate) fn column_blocks(channels: usize, lanes: usize) -> impl Iterator<Item = ColumnBlock> {
    let padded = channels.next_multiple_of(lanes);
    (0..padded)
        .step_by(2 * lanes)
        .map(move |start| ColumnBlock {
            start,
            width: (padded - start).min(2 * lanes),
        })
}
