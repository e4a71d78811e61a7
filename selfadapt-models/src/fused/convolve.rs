//! One convolution and its gradients on maps of whatever device.

use std::sync::Arc;

use candle_core::Result;
#[cfg(feature = "cuda")]
use candle_core::bail;
use selfadapt_kernels::buffers::Buffer;
use selfadapt_kernels::conv2d::{
    Affine, Algorithm, ChannelSums, Epilogue, Gate, Geometry, Input, PackedFilters, Sums, Term,
    slices,
};

#[cfg(feature = "cuda")]
use super::gpu;
use super::placed::{Placed, PlacedTerm};
use super::with_numbers;
use crate::layers::Conv2d;

/// A map as a convolution reads it: `relu(affine(x) + second)`.
#[derive(Clone, Copy)]
pub(crate) struct Read<'a> {
    pub values: &'a Placed,
    pub affine: Option<Affine<'a>>,
    pub second: Option<PlacedTerm<'a>>,
    pub relu: bool,
}

/// What happens to a result: `gate(result + bias + residual)`, and sums of that.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finish<'a> {
    /// `[C]`.
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a Placed>,
    pub gate: Option<PlacedGate<'a>>,
    pub sums: Sums<'a>,
}

/// Keeps a result where `affine(values) > 0`, if there was a ReLU.
#[derive(Clone, Copy)]
pub(crate) struct PlacedGate<'a> {
    pub values: &'a Placed,
    pub affine: Affine<'a>,
    pub relu: bool,
}

impl<'a> Read<'a> {
    /// The map as it is.
    pub fn plain(values: &'a Placed) -> Self {
        Self {
            values,
            affine: None,
            second: None,
            relu: false,
        }
    }

    fn on_cpu(&self) -> Result<Input<'a>> {
        let second = match self.second {
            Some(second) => Some(Term {
                values: second.values.on_cpu()?,
                scale: second.scale,
            }),
            None => None,
        };
        Ok(Input {
            values: self.values.on_cpu()?,
            affine: self.affine,
            second,
            relu: self.relu,
        })
    }
}

impl<'a> Finish<'a> {
    fn on_cpu(&self) -> Result<Epilogue<'a>> {
        let gate = match self.gate {
            Some(gate) => Some(Gate {
                values: gate.values.on_cpu()?,
                affine: gate.affine,
                relu: gate.relu,
            }),
            None => None,
        };
        Ok(Epilogue {
            bias: self.bias,
            residual: match self.residual {
                Some(residual) => Some(residual.on_cpu()?),
                None => None,
            },
            gate,
            sums: self.sums,
        })
    }
}

/// The convolution of `read`, where that lies, and the sums that `finish` asks for.
///
/// # Errors
/// If the shapes do not fit, maps lie on different devices, or the device fails.
pub(crate) fn forward(
    conv: &Conv2d,
    geometry: &Geometry,
    read: Read,
    finish: Finish,
) -> Result<(Placed, ChannelSums)> {
    with_numbers(&conv.weight, |weight| match read.values {
        Placed::Cpu(_) => {
            let pack = || PackedFilters::forward(geometry, conv.algorithm, weight);
            let filters: Arc<PackedFilters> = match conv.weight.track_op() {
                // These weights move before they are used again.
                true => pack()?.into(),
                false => conv.filters.of(weight, pack)?,
            };
            let mut values = Buffer::take(geometry.output_len());
            let sums = filters.apply(geometry, read.on_cpu()?, finish.on_cpu()?, &mut values)?;
            Ok((Placed::Cpu(values), sums))
        }
        #[cfg(feature = "cuda")]
        Placed::Gpu(_) => {
            gpu::convolve(&conv.on_gpu.forward, false, geometry, weight, read, finish)
        }
    })
}

/// The gradient by the convolution's input from that by its result, and the sums that `finish` asks for.
///
/// # Errors
/// As [`forward`].
pub(crate) fn backward_data(
    conv: &Conv2d,
    geometry: &Geometry,
    gradient: Read,
    finish: Finish,
) -> Result<(Placed, ChannelSums)> {
    with_numbers(&conv.weight, |weight| match gradient.values {
        Placed::Cpu(_) => {
            let filters = PackedFilters::backward_data(geometry, conv.algorithm, weight)?;
            let mut values = Buffer::take(geometry.input_len());
            let (gradient, finish) = (gradient.on_cpu()?, finish.on_cpu()?);
            let sums = filters.apply(geometry, gradient, finish, &mut values)?;
            Ok((Placed::Cpu(values), sums))
        }
        #[cfg(feature = "cuda")]
        Placed::Gpu(_) => gpu::convolve(
            &conv.on_gpu.turned,
            true,
            geometry,
            weight,
            gradient,
            finish,
        ),
    })
}

/// The gradient by the convolution's weight, `[Co, Ci, k, k]`.
///
/// # Errors
/// As [`forward`].
pub(crate) fn backward_weight(geometry: &Geometry, read: Read, gradient: Read) -> Result<Vec<f32>> {
    match (read.values, gradient.values) {
        (Placed::Cpu(_), Placed::Cpu(_)) => {
            let mut by_weight = vec![0.0; geometry.weight_len()];
            let (read, gradient) = (read.on_cpu()?, gradient.on_cpu()?);
            slices::backward_weight(geometry, Algorithm::Auto, read, gradient, &mut by_weight)?;
            Ok(by_weight)
        }
        #[cfg(feature = "cuda")]
        (Placed::Gpu(_), Placed::Gpu(_)) => gpu::backward_weight(geometry, read, gradient),
        #[cfg(feature = "cuda")]
        _ => bail!("fused layers: expected all maps on one device, got maps of two"),
    }
}
