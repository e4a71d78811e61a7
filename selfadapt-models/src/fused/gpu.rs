//! The GPU's forms of what is done to maps. Numbers of channels are uploaded for each call, a few kilobytes.

use std::sync::Arc;

use candle_core::Result;
use selfadapt_kernels::batch_norm::cuda::moments as moments_of_channels;
use selfadapt_kernels::blend::cuda as blends;
use selfadapt_kernels::conv2d::cuda::{self as kernels, Filters};
use selfadapt_kernels::conv2d::{Affine, ChannelSums, Geometry, Sums};
use selfadapt_kernels::cuda::{Array, Machine};
use selfadapt_kernels::max_pool::cuda as max_pool;
use selfadapt_kernels::upsample::cuda as upsample;

use super::convolve::{Finish, Read};
use super::filters::Cache;
use super::map::{ImageMoments, window};
use super::placed::{Placed, Sum};

/// A convolution's filters on a GPU, packed there once for as long as its weight is the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct FiltersOnGpu {
    pub forward: Cache<Filters>,
    pub turned: Cache<Filters>,
}

/// Scale and shift of channels.
struct AffineThere {
    scale: Array<f32>,
    shift: Array<f32>,
}

/// Numbers of channels that a [`Read`] needs.
struct ReadThere {
    affine: Option<AffineThere>,
    along: Option<Array<f32>>,
}

impl AffineThere {
    fn of(machine: &Arc<dyn Machine>, affine: Affine) -> Result<Self> {
        Ok(Self {
            scale: Array::of(machine, affine.scale)?,
            shift: Array::of(machine, affine.shift)?,
        })
    }

    fn lend(&self) -> kernels::Affine<'_> {
        kernels::Affine {
            scale: &self.scale,
            shift: &self.shift,
        }
    }
}

fn maybe(machine: &Arc<dyn Machine>, numbers: Option<&[f32]>) -> Result<Option<Array<f32>>> {
    numbers.map(|v| Array::of(machine, v)).transpose()
}

impl ReadThere {
    fn of(machine: &Arc<dyn Machine>, read: &Read) -> Result<Self> {
        let affine = read.affine.map(|affine| AffineThere::of(machine, affine));
        Ok(Self {
            affine: affine.transpose()?,
            along: maybe(machine, read.second.map(|second| second.scale))?,
        })
    }

    fn lend<'a>(&'a self, read: &Read<'a>) -> Result<kernels::Input<'a>> {
        let second = match (read.second, &self.along) {
            (Some(second), Some(scale)) => Some(kernels::Term {
                values: second.values.on_gpu()?,
                scale,
            }),
            _ => None,
        };
        Ok(kernels::Input {
            values: read.values.on_gpu()?,
            affine: self.affine.as_ref().map(AffineThere::lend),
            second,
            relu: read.relu,
        })
    }
}

/// A convolution by `weight`, or its gradient by data where `turned`.
///
/// # Errors
/// If the shapes do not fit, a map is not on the GPU, or that fails.
pub(super) fn convolve(
    cache: &Cache<Filters>,
    turned: bool,
    geometry: &Geometry,
    weight: &[f32],
    read: Read,
    finish: Finish,
) -> Result<(Placed, ChannelSums)> {
    let machine = read.values.on_gpu()?.machine();
    let filters = cache.made_of(
        weight,
        |_| true,
        || {
            let weight = Array::of(machine, weight)?;
            match turned {
                false => Filters::forward(geometry, &weight),
                true => Filters::backward_data(geometry, &weight),
            }
        },
    )?;
    let there = ReadThere::of(machine, &read)?;
    let bias = maybe(machine, finish.bias)?;
    let gate = finish
        .gate
        .map(|gate| AffineThere::of(machine, gate.affine))
        .transpose()?;
    let center = match finish.sums {
        Sums::None => None,
        Sums::Moments { center } | Sums::Products { center } => Some(Array::of(machine, center)?),
    };
    let epilogue = kernels::Epilogue {
        bias: bias.as_ref(),
        residual: finish.residual.map(Placed::on_gpu).transpose()?,
        gate: match (finish.gate, &gate) {
            (Some(gate), Some(affine)) => Some(kernels::Gate {
                values: gate.values.on_gpu()?,
                affine: affine.lend(),
                relu: gate.relu,
            }),
            _ => None,
        },
        sums: match (finish.sums, &center) {
            (Sums::Moments { .. }, Some(center)) => kernels::Sums::Moments(center),
            (Sums::Products { .. }, Some(center)) => kernels::Sums::Products(center),
            _ => kernels::Sums::None,
        },
    };
    let (values, sums) =
        filters.apply(geometry, there.lend(&read)?, epilogue, machine.precision())?;
    let sums = match sums {
        Some(sums) => {
            let mut first = sums.0.read()?;
            let second = first.split_off(first.len() / 2);
            ChannelSums { first, second }
        }
        None => ChannelSums::default(),
    };
    Ok((Placed::Gpu(values), sums))
}

/// The gradient by a convolution's weight.
///
/// # Errors
/// As [`convolve`].
pub(super) fn backward_weight(geometry: &Geometry, read: Read, gradient: Read) -> Result<Vec<f32>> {
    let machine = read.values.on_gpu()?.machine();
    let there = ReadThere::of(machine, &read)?;
    let gradient_there = ReadThere::of(machine, &gradient)?;
    let gradient = gradient_there.lend(&gradient)?;
    let read = there.lend(&read)?;
    kernels::backward_weight(geometry, read, gradient, machine.precision())?.read()
}

/// Mean and variance of each plane.
pub(super) fn moments(values: &Array<f32>, [b, c, h, w]: [usize; 4]) -> Result<ImageMoments> {
    if values.is_empty() {
        return Ok(ImageMoments::default());
    }
    // Each plane is a channel of its own.
    let taken = moments_of_channels(values, b * c, h * w)?;
    Ok(ImageMoments {
        mean: taken.mean.read()?,
        variance: taken.variance.read()?,
    })
}

pub(super) fn pool(values: &Array<f32>, shape: [usize; 4]) -> Result<Array<f32>> {
    if values.is_empty() {
        return Array::room(values.machine(), 0);
    }
    max_pool::forward(values, window(shape))
}

pub(super) fn double(values: &Array<f32>, [_, _, height, width]: [usize; 4]) -> Result<Array<f32>> {
    if values.is_empty() {
        return Array::room(values.machine(), 0);
    }
    upsample::nearest_2x(values, (height, width))
}

/// Numbers of channels and planes that a [`Sum`] needs.
struct SumThere {
    scales: Vec<Array<f32>>,
    shift: Option<Array<f32>>,
}

impl SumThere {
    fn of(machine: &Arc<dyn Machine>, sum: &Sum) -> Result<Self> {
        let scales = sum.terms.iter();
        let scales = scales.map(|term| Array::of(machine, term.scale));
        let shift = (!sum.shift.is_empty()).then_some(sum.shift);
        Ok(Self {
            scales: scales.collect::<Result<_>>()?,
            shift: maybe(machine, shift)?,
        })
    }

    fn terms<'a>(&'a self, sum: &Sum<'a>) -> Result<Vec<kernels::Term<'a>>> {
        let terms = sum.terms.iter().zip(&self.scales);
        let terms = terms.map(|(term, scale)| {
            Ok(kernels::Term {
                values: term.values.on_gpu()?,
                scale,
            })
        });
        terms.collect()
    }

    fn lend<'a>(&'a self, terms: &'a [kernels::Term<'a>]) -> blends::Blend<'a> {
        blends::Blend {
            terms,
            shift: self.shift.as_ref(),
        }
    }
}

pub(super) fn blend(
    shape: [usize; 4],
    own: Option<&[f32]>,
    sum: Sum,
    out: &mut Array<f32>,
) -> Result<()> {
    let machine = out.machine().clone();
    let there = SumThere::of(&machine, &sum)?;
    let (own, terms) = (maybe(&machine, own)?, there.terms(&sum)?);
    blends::blend(shape, own.as_ref(), there.lend(&terms), out)
}

pub(super) fn through_nearest_2x(
    shape: [usize; 4],
    doubled: Sum,
    machine: &Arc<dyn Machine>,
) -> Result<Array<f32>> {
    let there = SumThere::of(machine, &doubled)?;
    let terms = there.terms(&doubled)?;
    let mut out = Array::room(machine, shape.iter().product())?;
    blends::blend_through_nearest_2x(shape, there.lend(&terms), &mut out)?;
    Ok(out)
}

pub(super) fn blend_through_max_pool(
    shape: [usize; 4],
    own: &[f32],
    sum: Sum,
    x: &Array<f32>,
    pooled: Sum,
    out: &mut Array<f32>,
) -> Result<()> {
    let machine = out.machine().clone();
    let own = Array::of(&machine, own)?;
    let (there, of_pooled) = (
        SumThere::of(&machine, &sum)?,
        SumThere::of(&machine, &pooled)?,
    );
    let (terms, pooled_terms) = (there.terms(&sum)?, of_pooled.terms(&pooled)?);
    let (sum, pooled) = (there.lend(&terms), of_pooled.lend(&pooled_terms));
    blends::blend_through_max_pool(shape, Some(&own), sum, x, pooled, out)
}
