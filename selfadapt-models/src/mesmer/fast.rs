//! PanopticNet without a graph: ReLUs are applied where the next convolution reads, filters are packed once.

use candle_core::{DType, Device, Result as TensorResult, Tensor, bail};
use rayon::prelude::*;
use selfadapt_core::head::Head;
use selfadapt_core::maps::Prediction;
use selfadapt_core::model::Mode;
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::{Algorithm, Epilogue, Geometry, Input, PackedFilters};
use selfadapt_kernels::upsample::bilinear_forward;

use super::net::{Conv, PanopticNet};
use super::plan::{Block, SemanticHead};
use crate::fused::{Map, with_numbers};

/// Values that one task of an elementwise pass takes.
const RUN: usize = 1 << 14;

impl PanopticNet {
    /// Whether weights and images are `f32` on the CPU and record no graph.
    pub(super) fn is_plain(&self, images: &Tensor) -> bool {
        let plain = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32 && !t.track_op();
        plain(images) && self.plan.layers().all(|conv| plain(&conv.weight))
    }

    /// Forward, by running statistics.
    ///
    /// # Errors
    /// If the images do not fit the network.
    pub(super) fn predict(&self, images: &Tensor, heads: &[Head]) -> TensorResult<Prediction> {
        let plan = &self.plan;
        let mut x = Map::of_tensor(&self.stem(images, Mode::Eval)?)?;
        let mut stages = Vec::with_capacity(plan.stages.len());
        for blocks in &plan.stages {
            for block in blocks {
                x = residual(block, &x)?;
            }
            stages.push(copy(&x));
        }
        let embedding = mean(&x)?;
        let mut merged: Option<Map> = None;
        for (reduce, stage) in plan.reduced.iter().zip(stages.iter().rev()) {
            let deeper = merged.as_ref().map(doubled);
            merged = Some(run(reduce, stage, false, deeper.as_ref())?);
        }
        drop(stages);
        let Some(merged) = merged else {
            bail!("Mesmer: expected a pyramid of three levels")
        };
        let pyramid = run(&plan.pyramid, &merged, false, None)?;
        let maps = plan.heads.iter().zip(heads);
        let maps = maps.map(|(layers, head)| semantic(layers, head, &pyramid));
        Ok(Prediction {
            heads: maps.collect::<TensorResult<_>>()?,
            embedding,
        })
    }
}

/// `conv(x) + residual`, negative values of `x` counting as 0 if `relu`.
fn run(conv: &Conv, x: &Map, relu: bool, residual: Option<&Map>) -> TensorResult<Map> {
    let geometry = Geometry::new(x.shape, conv.weight.dims4()?.into(), conv.stride)?;
    let mut values = Buffer::take(geometry.output_len());
    apply(conv, &geometry, &x.values, relu, residual, &mut values)?;
    Ok(Map {
        values,
        shape: [
            geometry.batch(),
            geometry.out_channels(),
            geometry.out_height(),
            geometry.out_width(),
        ],
        moments: None,
    })
}

fn apply(
    conv: &Conv,
    geometry: &Geometry,
    x: &[f32],
    relu: bool,
    residual: Option<&Map>,
    to: &mut [f32],
) -> TensorResult<()> {
    let filters = with_numbers(&conv.weight, |weight| {
        conv.filters.of(weight, || {
            PackedFilters::forward(geometry, Algorithm::Auto, weight)
        })
    })?;
    with_numbers(&conv.bias, |bias| {
        let epilogue = Epilogue {
            bias: Some(bias),
            residual: residual.map(|map| &*map.values),
            ..Epilogue::default()
        };
        let input = Input {
            relu,
            ..Input::plain(x)
        };
        filters.apply(geometry, input, epilogue, to).map(|_| ())
    })
}

fn residual(block: &Block<Conv>, x: &Map) -> TensorResult<Map> {
    let [first, second, third] = &block.convs;
    let y = run(first, x, false, None)?;
    let y = run(second, &y, true, None)?;
    let mut y = match &block.shortcut {
        Some(shortcut) => run(third, &y, true, Some(&run(shortcut, x, false, None)?))?,
        None => run(third, &y, true, Some(x))?,
    };
    clip(&mut y.values);
    Ok(y)
}

/// One head's map as a tensor. Its last steps, at the full size, go image by image to bound the memory.
fn semantic(layers: &SemanticHead<Conv>, head: &Head, pyramid: &Map) -> TensorResult<Tensor> {
    let [first, second, third] = &layers.upsample;
    let [dense, last] = &layers.last;
    let x = doubled(&run(first, pyramid, false, None)?);
    let x = doubled(&run(second, &x, false, None)?);
    let x = run(dense, &run(third, &x, false, None)?, false, None)?;
    let [batch, channels, height, width] = x.shape;
    let shape = [1, channels, 2 * height, 2 * width];
    let geometry = Geometry::new(shape, last.weight.dims4()?.into(), 1)?;
    let mut large = Buffer::take(geometry.input_len());
    let mut values = vec![0.; batch * geometry.output_len()];
    let images = x.values.chunks(geometry.input_len().max(4) / 4);
    for (image, to) in images.zip(values.chunks_mut(geometry.output_len().max(1))) {
        bilinear_forward(image, (height, width), (2 * height, 2 * width), &mut large);
        apply(last, &geometry, &large, true, None, to)?;
    }
    if !head.is_classification() {
        clip(&mut values);
    }
    let shape = (batch, head.channels, 2 * height, 2 * width);
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn doubled(x: &Map) -> Map {
    let [batch, channels, height, width] = x.shape;
    let mut values = Buffer::take(4 * x.values.len());
    bilinear_forward(
        &x.values,
        (height, width),
        (2 * height, 2 * width),
        &mut values,
    );
    Map {
        values,
        shape: [batch, channels, 2 * height, 2 * width],
        moments: None,
    }
}

fn copy(x: &Map) -> Map {
    Map {
        values: Buffer::copy_of(&x.values),
        shape: x.shape,
        moments: None,
    }
}

/// Negative values become 0.
fn clip(values: &mut [f32]) {
    values.par_chunks_mut(RUN).for_each(|run| {
        for value in run {
            *value = value.max(0.);
        }
    });
}

/// The mean over pixels, `[B, C]`.
fn mean(x: &Map) -> TensorResult<Tensor> {
    let [batch, channels, ..] = x.shape;
    let pixels = x.pixels().max(1);
    let planes = x.values.chunks(pixels);
    let means = planes.map(|plane| {
        let sum: f64 = plane.iter().copied().map(f64::from).sum();
        (sum / pixels as f64) as f32
    });
    Tensor::from_vec(means.collect::<Vec<_>>(), (batch, channels), &Device::Cpu)
}
