//! What a pass of the rectified network did, kept to carry a gradient back through it.

use std::sync::Arc;

use candle_core::Result;
use candle_core::backprop::GradStore;
use selfadapt_kernels::blend::{Blend, blend_through_max_pool, blend_through_nearest_2x};
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::Term;
use selfadapt_kernels::upsample::nearest_2x_forward;

use super::net::Layer;
use crate::fused::{Gradient, Map, Rectified};

/// Maps here are as they left their convolution: what reads them puts the ReLU before.
enum Step<'a> {
    Convolution {
        layer: Rectified<'a>,
        x: Map,
    },
    Pooling {
        above: Arc<Map>,
        /// Whether the map is also read by the decoder.
        joined: bool,
    },
    /// The bottleneck's map, whose mean is the embedding.
    Bottom {
        x: Map,
    },
    /// The map below was enlarged, and the encoder's put behind it.
    Joining {
        below: [usize; 4],
    },
}

/// The steps of a pass in their order, or none where no gradient is wanted.
pub(super) struct Tape<'a> {
    steps: Vec<Step<'a>>,
    kept: bool,
    /// Whether the next map is the image, which is not rectified.
    image: bool,
}

impl<'a> Tape<'a> {
    /// An empty tape; steps are kept if `kept`.
    pub fn new(kept: bool) -> Self {
        Self {
            steps: Vec::new(),
            kept,
            image: true,
        }
    }

    /// Runs `x` through convolutions.
    pub fn through(&mut self, layers: &'a [Layer], mut x: Map) -> Result<Map> {
        for layer in layers {
            let layer = Rectified {
                conv: &layer.conv,
                relu: !std::mem::take(&mut self.image),
            };
            let y = layer.run(&x)?;
            self.keep(Step::Convolution { layer, x });
            x = y;
        }
        Ok(x)
    }

    /// Halves a map's sides, which are even.
    pub fn pool(&mut self, above: &Arc<Map>, joined: bool) -> Map {
        let pooled = above.pooled();
        self.keep(Step::Pooling {
            above: above.clone(),
            joined,
        });
        pooled
    }

    /// The map of the bottleneck averaged over its pixels behind the ReLU, `[B, D]`; gives the map back.
    pub fn bottom(&mut self, x: &Map) -> Vec<f32> {
        let pixels = x.pixels().max(1);
        let planes = x.values.chunks_exact(pixels);
        let means = planes.map(|plane| {
            let sum: f64 = plane.iter().map(|&v| f64::from(v.max(0.))).sum();
            (sum / pixels as f64) as f32
        });
        let means = means.collect();
        if self.kept {
            let x = Map {
                values: Buffer::copy_of(&x.values),
                shape: x.shape,
                moments: None,
            };
            self.keep(Step::Bottom { x });
        }
        means
    }

    /// Enlarges `below` twofold and puts the channels of `skip` behind its own.
    pub fn join(&mut self, below: &Map, skip: &Map) -> Map {
        self.keep(Step::Joining { below: below.shape });
        let [batch, first, height, width] = below.shape;
        let second = skip.shape[1];
        let shape = [batch, first + second, 2 * height, 2 * width];
        let mut values = Buffer::take(shape.iter().product());
        let pixels = height * width;
        let images = values.chunks_exact_mut((4 * pixels * (first + second)).max(1));
        let below = below.values.chunks_exact((first * pixels).max(1));
        let skip = skip.values.chunks_exact((4 * second * pixels).max(1));
        for ((image, below), skip) in images.zip(below).zip(skip) {
            let (of_below, of_skip) = image.split_at_mut(4 * below.len());
            nearest_2x_forward(below, height, width, of_below);
            of_skip.copy_from_slice(skip);
        }
        Map {
            values,
            shape,
            moments: None,
        }
    }

    fn keep(&mut self, step: Step<'a>) {
        if self.kept {
            self.steps.push(step);
        }
    }

    /// Carries the gradient by the last map back, with that by the embedding `[B, D]` where there is one; stores the
    /// gradients of all parameters on the way.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn backward(
        mut self,
        mut gradient: Gradient,
        by_embedding: Option<Vec<f32>>,
        gradients: &mut GradStore,
    ) -> Result<()> {
        // Gradients by the encoder's maps through the decoder, the shallowest first.
        let mut skips = Vec::new();
        while let Some(step) = self.steps.pop() {
            match step {
                Step::Convolution { layer, x } => {
                    layer.backward_parameters(&x, &gradient, gradients)?;
                    if !self.steps.is_empty() {
                        gradient = layer.backward_input(&x, &gradient, None)?;
                    }
                }
                Step::Joining { below } => {
                    let (of_below, of_skip) = split(&gradient, below)?;
                    skips.push(of_skip);
                    gradient = of_below;
                }
                Step::Bottom { x } => {
                    if let Some(by_mean) = &by_embedding {
                        add_mean(&x, by_mean, &mut gradient);
                    }
                }
                Step::Pooling { above, joined } => {
                    let own = joined.then(|| skips.pop()).flatten();
                    gradient = through_pooling(&above, own, &gradient)?;
                }
            }
        }
        Ok(())
    }
}

/// The gradients by the two maps that were joined; the first one's shape is `below`.
fn split(gradient: &Gradient, below: [usize; 4]) -> Result<(Gradient, Gradient)> {
    let [batch, first, height, width] = below;
    let (channels, plane) = (gradient.total.len(), 4 * height * width);
    let second = channels - first;
    let mut enlarged = Buffer::take(batch * first * plane);
    let mut skip = Buffer::take(batch * second * plane);
    let images = gradient.values.chunks_exact((channels * plane).max(1));
    let parts = enlarged
        .chunks_exact_mut((first * plane).max(1))
        .zip(skip.chunks_exact_mut((second * plane).max(1)));
    for (image, (of_below, of_skip)) in images.zip(parts) {
        let (a, b) = image.split_at(first * plane);
        of_below.copy_from_slice(a);
        of_skip.copy_from_slice(b);
    }
    let (a, b) = gradient.total.split_at(first);
    let ones = vec![1.; first];
    let mut values = Buffer::take(below.iter().product());
    let doubled = [Term {
        values: &enlarged,
        scale: &ones,
    }];
    blend_through_nearest_2x(below, whole(&doubled), whole(&[]), &mut values)?;
    let of_below = Gradient {
        values,
        total: a.to_vec(),
    };
    let of_skip = Gradient {
        values: skip,
        total: b.to_vec(),
    };
    Ok((of_below, of_skip))
}

/// The gradient by a map `above` from that by its pooled form, and by the decoder.
fn through_pooling(above: &Map, own: Option<Gradient>, pooled: &Gradient) -> Result<Gradient> {
    let mut sum = own.unwrap_or_else(|| {
        let mut values = Buffer::take(above.values.len());
        values.fill(0.);
        Gradient {
            values,
            total: vec![0.; pooled.total.len()],
        }
    });
    let ones = vec![1.; pooled.total.len()];
    let term = [Term {
        values: &pooled.values,
        scale: &ones,
    }];
    blend_through_max_pool(
        above.shape,
        None,
        whole(&[]),
        &above.values,
        whole(&term),
        &mut sum.values,
    )?;
    for (total, by) in sum.total.iter_mut().zip(&pooled.total) {
        *total += by;
    }
    Ok(sum)
}

/// A sum of terms and nothing more.
fn whole<'a>(terms: &'a [Term<'a>]) -> Blend<'a> {
    Blend { terms, shift: &[] }
}

/// Adds the gradient through the mean over the pixels of `relu(x)`.
fn add_mean(x: &Map, by_mean: &[f32], gradient: &mut Gradient) {
    let (pixels, channels) = (x.pixels().max(1), x.shape[1]);
    let planes = x.values.chunks_exact(pixels);
    let planes = planes.zip(gradient.values.chunks_exact_mut(pixels));
    for (i, ((x, by_x), by_mean)) in planes.zip(by_mean).enumerate() {
        let each = by_mean / pixels as f32;
        for (x, by_x) in x.iter().zip(by_x) {
            if *x > 0. {
                *by_x += each;
                gradient.total[i % channels] += f64::from(each);
            }
        }
    }
}
