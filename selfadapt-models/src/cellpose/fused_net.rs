//! CPnet without a graph: inference, and a training pass that writes its own gradients.
//!
//! The plain candle form in `net.rs` is what this equals; it is used where weights or images are not `f32` on the CPU.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result as TensorResult, Tensor, Var, bail};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::Mode;
use selfadapt_kernels::device::Device;

use super::fused_joins::{at_the_bottom, through_doubling, through_pooling};
use super::fused_levels::{DownTrace, Gradient, Map, StyleGradient, UpTrace, center};
use super::net::{CpNet, prediction};
use crate::fused::{Folded, Placed, Read, with_numbers};

/// A forward pass's results and, level by level, what its gradient needs.
struct Pass {
    y: Map,
    /// `[B, D]`: the deepest map averaged over its pixels.
    embedding: Vec<f64>,
    features: usize,
    trace: Option<Trace>,
}

struct Trace {
    /// The encoder's maps and the passes through its levels.
    down: Vec<(Arc<Map>, DownTrace)>,
    /// The decoder's levels, the deepest first.
    up: Vec<UpTrace>,
    last: Map,
    output: Folded,
    style: Vec<f64>,
}

impl CpNet {
    /// Whether the weights record a graph.
    pub(super) fn is_tracked(&self) -> bool {
        self.output.conv.weight.track_op()
    }

    /// Whether weights and images are what the fused form computes with.
    pub(super) fn is_plain(&self, images: &Tensor) -> bool {
        let weight = &self.output.conv.weight;
        let plain = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32;
        plain(weight) && plain(images) && !images.track_op()
    }

    /// Forward without a graph, on a device.
    ///
    /// # Errors
    /// If the images do not fit the network, or the device fails.
    pub(super) fn predict(
        &self,
        device: &Device,
        images: &Tensor,
        mode: Mode,
    ) -> TensorResult<Prediction> {
        self.pass(device, images, mode, false)?.prediction()
    }

    /// Forward and backward on a device: the gradients of `loss` by every weight.
    ///
    /// # Errors
    /// If the images do not fit the network, the device fails, or as `loss`.
    pub(super) fn differentiate(
        &self,
        device: &Device,
        images: &Tensor,
        mode: Mode,
        loss: &mut dyn FnMut(&Prediction) -> Result<Tensor>,
    ) -> Result<GradStore> {
        let mut pass = self.pass(device, images, mode, true)?;
        let found = pass.prediction()?;
        let variables = found
            .heads
            .iter()
            .chain([&found.embedding])
            .map(Var::from_tensor)
            .collect::<TensorResult<Vec<Var>>>()?;
        let [flows, cells, embedding] = variables.as_slice() else {
            return Err(Error::Setting(
                "CPnet has two heads and an embedding".into(),
            ));
        };
        drop(found);
        let seen = Prediction {
            heads: vec![flows.as_tensor().clone(), cells.as_tensor().clone()],
            embedding: embedding.as_tensor().clone(),
        };
        let mut gradients = loss(&seen)?.backward()?;
        let [flows, cells, embedding] =
            [flows, cells, embedding].map(|variable| gradients.remove(variable));
        if flows.is_none() && cells.is_none() && embedding.is_none() {
            // The loss does not depend on the network.
            return Ok(gradients);
        }
        let by_y = pass.by_output(device, &[(flows, 2), (cells, 1)])?;
        if let Some(trace) = pass.trace.take() {
            self.backward_pass(trace, &pass.embedding, by_y, embedding, &mut gradients)?;
        }
        Ok(gradients)
    }

    fn pass(
        &self,
        device: &Device,
        images: &Tensor,
        mode: Mode,
        traced: bool,
    ) -> TensorResult<Pass> {
        let (_, _, height, width) = images.dims4()?;
        let divisor = 1 << (self.down.len() - 1);
        if height % divisor + width % divisor != 0 {
            bail!("CPnet: expected sides that are multiples of {divisor}, got {height} x {width}")
        }
        let (deepest, train) = (self.down.len() - 1, mode == Mode::Train);
        let mut down: Vec<(Arc<Map>, Option<DownTrace>)> = Vec::new();
        for (n, level) in self.down.iter().enumerate() {
            let x = match down.last() {
                None => Map::on(device, images, train)?,
                Some((above, _)) => above.pooled(train)?,
            };
            // The embedding is made of the deepest map's means.
            let about = match n == deepest {
                true => Some(self.up[n].first.norm.running_mean.to_vec1()?),
                false => None,
            };
            let (map, trace) = level.run(x, mode, about.as_deref())?;
            down.push((Arc::new(map), traced.then_some(trace)));
        }
        let mut x = down[deepest].0.clone();
        let embedding = x.moments.as_ref().map_or_else(Vec::new, |m| m.mean.clone());
        let features = x.shape[1];
        let style = style(&embedding, features);
        let (mut up, mut last) = (Vec::new(), None);
        for (n, level) in self.up.iter().enumerate().rev() {
            if let Some(below) = last.take() {
                let below: Map = below;
                x = Arc::new(below.doubled()?);
            }
            let next = match n {
                0 => &self.output.norm,
                n => &self.up[n - 1].first.norm,
            };
            let skip = match traced {
                true => down[n].0.clone(),
                false => down.remove(n).0,
            };
            let about = center(mode, next)?;
            let (map, trace) = level.run(x.clone(), (&skip, &style), mode, about.as_deref())?;
            up.extend(traced.then_some(trace));
            last = Some(map);
        }
        let Some(last) = last else {
            bail!("CPnet: expected at least one level")
        };
        let (y, output) = self.output.fused().run(&last, mode, None, None, None)?;
        let down: Vec<_> = down
            .into_iter()
            .filter_map(|(map, trace)| Some((map, trace?)))
            .collect();
        let trace = traced.then_some(Trace {
            down,
            up,
            last,
            output,
            style: style.clone(),
        });
        Ok(Pass {
            y,
            embedding,
            features,
            trace,
        })
    }

    fn backward_pass(
        &self,
        mut trace: Trace,
        embedding: &[f64],
        by_y: Gradient,
        by_embedding: Option<Tensor>,
        gradients: &mut GradStore,
    ) -> Result<()> {
        let whole = Read::plain(&by_y.values);
        let output = self.output.fused();
        let pending = output.backward(&trace.last, &trace.output, whole, &by_y.total, gradients)?;
        drop(by_y);
        let mut gradient = pending.settle(&trace.last)?;
        drop(trace.last);
        let mut style = StyleGradient {
            by_style: vec![0.0; trace.style.len()],
            style: &trace.style,
        };
        // Gradients by the encoder's maps through the skip connections, the shallowest first.
        let mut skips = Vec::new();
        let mut bottom = None;
        for (n, level) in self.up.iter().enumerate() {
            let Some(passed) = trace.up.pop() else {
                break;
            };
            let (leaving, x, skip) = level.backward(passed, gradient, &mut style, gradients)?;
            skips.push(skip);
            if n + 1 == self.up.len() {
                bottom = Some((leaving, x));
                break;
            }
            gradient = through_doubling(&leaving, &x)?;
        }
        let (Some((leaving, x)), Some(skip)) = (bottom, skips.pop()) else {
            return Ok(());
        };
        let by_embedding = match by_embedding {
            Some(tensor) => tensor.flatten_all()?.to_vec1::<f32>()?,
            None => vec![0.0; embedding.len()],
        };
        let by_mean = style.by_embedding(embedding, &by_embedding, x.shape[1]);
        let mut gradient = at_the_bottom(leaving, &x, skip, &by_mean)?;
        drop(x);
        for level in self.down.iter().rev() {
            let Some((_, passed)) = trace.down.pop() else {
                break;
            };
            let (leaving, x) = level.backward(passed, gradient, gradients)?;
            let (Some((above, _)), Some(skip)) = (trace.down.last(), skips.pop()) else {
                break;
            };
            gradient = through_pooling(&leaving, &x, skip, above)?;
        }
        Ok(())
    }
}

/// An embedding `[B, D]` scaled to length 1.
fn style(embedding: &[f64], features: usize) -> Vec<f64> {
    embedding
        .chunks(features.max(1))
        .flat_map(|row| {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(move |v| v / length)
        })
        .collect()
}

impl StyleGradient<'_> {
    /// The gradient by the embedding: that through its length, and its own.
    fn by_embedding(&self, embedding: &[f64], own: &[f32], features: usize) -> Vec<f64> {
        let rows = embedding
            .chunks(features)
            .zip(self.style.chunks(features))
            .zip(self.by_style.chunks(features))
            .zip(own.chunks(features));
        rows.flat_map(|(((embedding, style), by_style), own)| {
            let length = embedding.iter().map(|v| v * v).sum::<f64>().sqrt();
            let along = style.iter().zip(by_style).map(|(s, d)| s * d).sum::<f64>();
            let parts = style.iter().zip(by_style).zip(own);
            parts.map(move |((s, d), own)| (d - s * along) / length + f64::from(*own))
        })
        .collect()
    }
}

impl Pass {
    fn prediction(&self) -> TensorResult<Prediction> {
        let batch = self.y.shape[0];
        let y = self.y.values.read()?.into_owned();
        let y = Tensor::from_vec(y, &self.y.shape, &candle_core::Device::Cpu)?;
        let embedding: Vec<f32> = self.embedding.iter().map(|&v| v as f32).collect();
        let embedding = Tensor::from_vec(embedding, (batch, self.features), y.device())?;
        prediction(&y, embedding)
    }

    /// The gradient by the last map from those by its heads, each with its channels; zero where there is none.
    fn by_output(
        &self,
        device: &Device,
        heads: &[(Option<Tensor>, usize)],
    ) -> TensorResult<Gradient> {
        let [batch, channels, ..] = self.y.shape;
        let pixels = self.y.pixels();
        let mut values = vec![0.0; batch * channels * pixels];
        let mut total = vec![0.0; channels];
        let mut first = 0;
        for (gradient, count) in heads {
            let at = |image: usize| (image * channels + first) * pixels;
            if let Some(gradient) = gradient {
                with_numbers(&gradient.contiguous()?, |numbers| {
                    for (b, image) in numbers.chunks_exact((count * pixels).max(1)).enumerate() {
                        values[at(b)..at(b) + count * pixels].copy_from_slice(image);
                        for (c, plane) in image.chunks_exact(pixels).enumerate() {
                            total[first + c] += plane.iter().map(|&v| f64::from(v)).sum::<f64>();
                        }
                    }
                    Ok(())
                })?;
            }
            first += count;
        }
        Ok(Gradient {
            values: Placed::of(device, &values)?,
            total,
        })
    }
}
