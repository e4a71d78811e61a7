//! The network without a graph, where it is convolutions and ReLUs alone: inference, and a training pass that writes
//! its own gradients.
//!
//! The plain candle form in `net.rs` is what this equals; it is used for other activations, batch norm, and where weights
//! or images are not `f32` on the CPU.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result as TensorResult, Tensor, Var, bail};
use selfadapt_core::error::Result;
use selfadapt_core::maps::Prediction;
use selfadapt_kernels::buffers::Buffer;

use super::fused_tape::Tape;
use super::net::{Layer, StarNet};
use crate::fused::{Gradient, Map, Rectified, with_numbers};

/// A forward pass's results and what its gradient needs.
struct Pass<'a> {
    prob: Map,
    dist: Map,
    /// `[B, D]`: the bottleneck's map averaged over its pixels.
    embedding: Vec<f32>,
    features: usize,
    tape: Tape<'a>,
    /// What the heads read.
    last: Map,
}

impl Layer {
    fn after(&self, relu: bool) -> Rectified<'_> {
        Rectified {
            conv: &self.conv,
            relu,
        }
    }
}

impl StarNet {
    /// Whether the weights record a graph.
    pub(super) fn is_tracked(&self) -> bool {
        self.plan.prob.conv.weight.track_op()
    }

    /// Whether network and images are what the fused form computes with.
    pub(super) fn is_fused(&self, images: &Tensor) -> bool {
        let weight = &self.plan.prob.conv.weight;
        let plain = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32;
        self.rectified && plain(weight) && plain(images) && !images.track_op()
    }

    /// Forward without a graph: logits, distances, embedding.
    ///
    /// # Errors
    /// If the images do not fit the network.
    pub(super) fn predict(&self, images: &Tensor) -> TensorResult<[Tensor; 3]> {
        self.run(images, false)?.results()
    }

    /// Forward and backward: the gradients of `loss` by every weight.
    ///
    /// # Errors
    /// If the images do not fit the network, or as `loss`.
    pub(super) fn differentiate(
        &self,
        images: &Tensor,
        loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>,
    ) -> Result<GradStore> {
        let pass = self.run(images, true)?;
        let found = pass.results()?;
        let [prob, dist, embedding] = [
            Var::from_tensor(&found[0])?,
            Var::from_tensor(&found[1])?,
            Var::from_tensor(&found[2])?,
        ];
        drop(found);
        let seen = Prediction {
            heads: vec![prob.as_tensor().clone(), dist.as_tensor().clone()],
            embedding: embedding.as_tensor().clone(),
        };
        let mut gradients = loss(&seen)?.backward()?;
        let [prob, dist, embedding] = [prob, dist, embedding].map(|v| gradients.remove(&v));
        if prob.is_none() && dist.is_none() && embedding.is_none() {
            // The loss does not depend on the network.
            return Ok(gradients);
        }
        let by_prob = gradient(prob, &pass.prob)?;
        let by_dist = gradient(dist, &pass.dist)?;
        let (last, plan) = (&pass.last, &self.plan);
        for (head, by) in [(&plan.prob, &by_prob), (&plan.dist, &by_dist)] {
            let head = head.after(true);
            head.backward_parameters(last, by, &mut gradients)?;
        }
        // The gradients by what both heads read add up before they pass its ReLU.
        let by_one = plan
            .prob
            .after(false)
            .backward_input(last, &by_prob, None)?;
        let by_last = plan
            .dist
            .after(true)
            .backward_input(last, &by_dist, Some(&by_one))?;
        drop((by_prob, by_dist, by_one));
        let embedding = embedding
            .map(|by| by.flatten_all()?.to_vec1::<f32>())
            .transpose()?;
        pass.tape.backward(by_last, embedding, &mut gradients)?;
        Ok(gradients)
    }

    fn run(&self, images: &Tensor, traced: bool) -> TensorResult<Pass<'_>> {
        let (_, _, height, width) = images.dims4()?;
        let plan = &self.plan;
        let divisor = 1 << (plan.before.len() + plan.down.len());
        if height % divisor + width % divisor != 0 {
            bail!(
                "StarDist: expected sides that are multiples of {divisor}, got {height} x {width}"
            )
        }
        let mut tape = Tape::new(traced);
        let mut x = Map::of_tensor(images)?;
        for layers in &plan.before {
            x = tape.through(layers, x)?;
            x = tape.pool(&Arc::new(x), false);
        }
        let mut skips = Vec::with_capacity(plan.down.len());
        for layers in &plan.down {
            let skip = Arc::new(tape.through(layers, x)?);
            x = tape.pool(&skip, true);
            skips.push(skip);
        }
        x = tape.through(&plan.middle, x)?;
        let (embedding, features) = (tape.bottom(&x), x.shape[1]);
        for layers in &plan.up {
            let Some(skip) = skips.pop() else {
                bail!("StarDist: expected as many levels up as down")
            };
            x = tape.join(&x, &skip);
            drop(skip);
            x = tape.through(layers, x)?;
        }
        if let Some(features) = &plan.features {
            x = tape.through(std::slice::from_ref(features), x)?;
        }
        Ok(Pass {
            prob: plan.prob.after(true).run(&x)?,
            dist: plan.dist.after(true).run(&x)?,
            embedding,
            features,
            tape,
            last: x,
        })
    }
}

impl Pass<'_> {
    fn results(&self) -> TensorResult<[Tensor; 3]> {
        let tensor = |map: &Map| Tensor::from_slice(&map.values, &map.shape, &Device::Cpu);
        let size = (self.prob.shape[0], self.features);
        Ok([
            tensor(&self.prob)?,
            tensor(&self.dist)?,
            Tensor::from_slice(&self.embedding, size, &Device::Cpu)?,
        ])
    }
}

/// The gradient by a head's map; zero where there is none.
fn gradient(found: Option<Tensor>, of: &Map) -> TensorResult<Gradient> {
    let (channels, pixels) = (of.shape[1], of.pixels());
    let mut total = vec![0.; channels];
    let Some(found) = found else {
        let mut values = Buffer::take(of.values.len());
        values.fill(0.);
        return Ok(Gradient { values, total });
    };
    let values = with_numbers(&found.contiguous()?, |numbers| Ok(Buffer::copy_of(numbers)))?;
    for (i, plane) in values.chunks_exact(pixels.max(1)).enumerate() {
        total[i % channels] += plane.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    Ok(Gradient { values, total })
}
