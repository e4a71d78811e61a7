//! Maps on whatever device a network computes on, and what is done to whole maps there.
//!
//! Where the numbers lie is a value: every operation looks at it and takes the CPU's form or, in `gpu.rs`, the GPU's.
//! Numbers of channels (statistics, factors, styles) are on the CPU, in either case by the same code.

use std::borrow::Cow;

use candle_core::{Result, Tensor, bail};
use selfadapt_kernels::blend::{self, Blend};
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::Term;
#[cfg(feature = "cuda")]
use selfadapt_kernels::cuda::Array;
use selfadapt_kernels::device::Device;
use selfadapt_kernels::upsample::nearest_2x_forward;

#[cfg(feature = "cuda")]
use super::gpu;
use super::map::{ImageMoments, Map, halved, pool};
use super::with_numbers;

/// A map's numbers.
#[derive(Debug)]
pub(crate) enum Placed {
    Cpu(Buffer),
    #[cfg(feature = "cuda")]
    Gpu(Array<f32>),
}

/// A map and a factor for each of its channels.
#[derive(Clone, Copy)]
pub(crate) struct PlacedTerm<'a> {
    pub values: &'a Placed,
    /// `[C]`.
    pub scale: &'a [f32],
}

/// `sum_k scale_k[c] x_k + shift[b, c]`, of at most four maps.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum<'a> {
    pub terms: &'a [PlacedTerm<'a>],
    /// `[B, C]`, or empty for none.
    pub shift: &'a [f32],
}

impl Placed {
    /// No numbers.
    pub fn none() -> Self {
        Self::Cpu(Buffer::take(0))
    }

    /// A copy of `numbers` on a device.
    ///
    /// # Errors
    /// If the device's memory is full.
    pub fn of(device: &Device, numbers: &[f32]) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if let Some(machine) = device.machine() {
            return Ok(Self::Gpu(Array::of(machine, numbers)?));
        }
        let _ = device;
        Ok(Self::Cpu(Buffer::copy_of(numbers)))
    }

    /// The numbers, brought back where they are elsewhere.
    ///
    /// # Errors
    /// If the device, or anything that it was asked before, failed.
    pub fn read(&self) -> Result<Cow<'_, [f32]>> {
        match self {
            Self::Cpu(numbers) => Ok(Cow::Borrowed(numbers)),
            #[cfg(feature = "cuda")]
            Self::Gpu(array) => Ok(Cow::Owned(array.read()?)),
        }
    }

    /// The numbers on the CPU.
    ///
    /// # Errors
    /// If they are elsewhere.
    pub fn on_cpu(&self) -> Result<&Buffer> {
        match self {
            Self::Cpu(numbers) => Ok(numbers),
            #[cfg(feature = "cuda")]
            Self::Gpu(_) => bail!("fused layers: expected all maps on the CPU, got one on a GPU"),
        }
    }

    /// The numbers on a GPU.
    ///
    /// # Errors
    /// If they are on the CPU.
    #[cfg(feature = "cuda")]
    pub fn on_gpu(&self) -> Result<&Array<f32>> {
        match self {
            Self::Gpu(array) => Ok(array),
            Self::Cpu(_) => bail!("fused layers: expected all maps on the GPU, got one on the CPU"),
        }
    }
}

impl<'a> Sum<'a> {
    /// Its terms as the CPU's kernels take them.
    fn terms_on_cpu(&self) -> Result<Vec<Term<'a>>> {
        let terms = self.terms.iter().map(|term| {
            Ok(Term {
                values: term.values.on_cpu()?,
                scale: term.scale,
            })
        });
        terms.collect()
    }
}

impl Map<Placed> {
    /// Copies a tensor `[B, C, H, W]` to a device; takes its moments if `measured`.
    ///
    /// # Errors
    /// If the tensor has other axes, is not `f32` on the CPU, or the device fails.
    pub fn on(device: &Device, tensor: &Tensor, measured: bool) -> Result<Self> {
        let (b, c, h, w) = tensor.dims4()?;
        let values = with_numbers(&tensor.contiguous()?, |numbers| Placed::of(device, numbers))?;
        Self::measured(values, [b, c, h, w], measured)
    }

    fn measured(values: Placed, shape: [usize; 4], measured: bool) -> Result<Self> {
        let moments = match (&values, measured) {
            (_, false) => None,
            (Placed::Cpu(numbers), true) => Some(ImageMoments::of_values(numbers, shape)),
            #[cfg(feature = "cuda")]
            (Placed::Gpu(array), true) => Some(gpu::moments(array, shape)?),
        };
        Ok(Self {
            values,
            shape,
            moments,
        })
    }

    /// The largest of each 2 x 2 block; the sides are even.
    ///
    /// # Errors
    /// If the device fails.
    pub fn pooled(&self, measured: bool) -> Result<Self> {
        let values = match &self.values {
            Placed::Cpu(numbers) => Placed::Cpu(pool(numbers, self.shape)),
            #[cfg(feature = "cuda")]
            Placed::Gpu(array) => Placed::Gpu(gpu::pool(array, self.shape)?),
        };
        Self::measured(values, halved(self.shape), measured)
    }

    /// Each pixel in a 2 x 2 block, which leaves moments as they are.
    ///
    /// # Errors
    /// If the device fails.
    pub fn doubled(&self) -> Result<Self> {
        let [batch, channels, height, width] = self.shape;
        let values = match &self.values {
            Placed::Cpu(numbers) => {
                let mut doubled = Buffer::take(4 * numbers.len());
                nearest_2x_forward(numbers, height, width, &mut doubled);
                Placed::Cpu(doubled)
            }
            #[cfg(feature = "cuda")]
            Placed::Gpu(array) => Placed::Gpu(gpu::double(array, self.shape)?),
        };
        Ok(Self {
            values,
            shape: [batch, channels, 2 * height, 2 * width],
            moments: self.moments.clone(),
        })
    }
}

/// Replaces `out` `[B, C, H, W]` by `own[c]` times itself plus a sum; `own` of `None` is 1.
///
/// # Errors
/// If a length does not fit the shape, or the device fails.
pub(crate) fn blend(
    shape: [usize; 4],
    own: Option<&[f32]>,
    sum: Sum,
    out: &mut Placed,
) -> Result<()> {
    match out {
        Placed::Cpu(out) => {
            let terms = sum.terms_on_cpu()?;
            blend::blend(shape, own, on_cpu(&terms, sum), out)
        }
        #[cfg(feature = "cuda")]
        Placed::Gpu(out) => gpu::blend(shape, own, sum, out),
    }
}

/// The gradient of a nearest upsampling by 2 by maps `[B, C, H, W]`, that by the doubled map being a sum of one term or
/// more.
///
/// # Errors
/// If a length does not fit the shape, or the device fails.
pub(crate) fn through_nearest_2x(shape: [usize; 4], doubled: Sum) -> Result<Placed> {
    match doubled.terms.first().map(|term| term.values) {
        None => bail!("fused layers: expected a term to carry through an upsampling, got none"),
        Some(Placed::Cpu(_)) => {
            let terms = doubled.terms_on_cpu()?;
            let none = Blend {
                terms: &[],
                shift: &[],
            };
            let mut values = Buffer::take(shape.iter().product());
            let doubled = on_cpu(&terms, doubled);
            blend::blend_through_nearest_2x(shape, doubled, none, &mut values)?;
            Ok(Placed::Cpu(values))
        }
        #[cfg(feature = "cuda")]
        Some(Placed::Gpu(array)) => Ok(Placed::Gpu(gpu::through_nearest_2x(
            shape,
            doubled,
            array.machine(),
        )?)),
    }
}

/// Blends `out` in place like [`blend`], then adds the gradient of a 2 x 2 max pooling of `x` whose output's gradient is
/// the sum `pooled`.
///
/// # Errors
/// If a length does not fit the shape, a side is odd, or the device fails.
pub(crate) fn blend_through_max_pool(
    shape: [usize; 4],
    own: &[f32],
    sum: Sum,
    x: &Placed,
    pooled: Sum,
    out: &mut Placed,
) -> Result<()> {
    match out {
        Placed::Cpu(out) => {
            let (terms, pooled_terms) = (sum.terms_on_cpu()?, pooled.terms_on_cpu()?);
            let (sum, pooled) = (on_cpu(&terms, sum), on_cpu(&pooled_terms, pooled));
            blend::blend_through_max_pool(shape, Some(own), sum, x.on_cpu()?, pooled, out)
        }
        #[cfg(feature = "cuda")]
        Placed::Gpu(out) => gpu::blend_through_max_pool(shape, own, sum, x.on_gpu()?, pooled, out),
    }
}

fn on_cpu<'a>(terms: &'a [Term<'a>], sum: Sum<'a>) -> Blend<'a> {
    Blend {
        terms,
        shift: sum.shift,
    }
}
