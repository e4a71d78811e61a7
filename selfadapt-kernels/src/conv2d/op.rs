//! The convolution and its gradients as candle operations on `f32` and `f64` tensors of the CPU.

use super::epilogue::Epilogue;
use super::geometry::Geometry;
use super::operand::Input;
use super::{Algorithm, reference, slices};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use std::mem::MaybeUninit;

/// What a convolution is besides its tensors.
#[derive(Clone, Copy)]
pub(super) struct Convolution {
    pub geometry: Geometry,
    pub algorithm: Algorithm,
}

struct DataGradient(Convolution);
struct WeightGradient(Convolution);
struct BiasGradient(Convolution);

impl Convolution {
    fn forward(
        &self,
        input: Values,
        weight: Values,
        bias: Option<Values>,
    ) -> Result<(CpuStorage, Shape)> {
        let geometry = &self.geometry;
        let storage = match (input, weight, bias) {
            (Values::F32(input), Values::F32(weight), None | Some(Values::F32(_))) => {
                let epilogue = Epilogue {
                    bias: bias.and_then(Values::f32),
                    ..Epilogue::default()
                };
                let algorithm = self.algorithm;
                CpuStorage::F32(written(geometry.output_len(), |to| {
                    let input = Input::plain(input);
                    slices::forward_uninit(geometry, algorithm, input, weight, epilogue, to)
                        .map(|_| ())
                })?)
            }
            (Values::F64(input), Values::F64(weight), None | Some(Values::F64(_))) => {
                let bias = bias.and_then(Values::f64);
                CpuStorage::F64(reference::forward(geometry, input, weight, bias))
            }
            _ => return self.mixed(),
        };
        let [h, w] = [geometry.out_height(), geometry.out_width()];
        Ok((
            storage,
            (geometry.batch(), geometry.out_channels(), h, w).into(),
        ))
    }

    /// The gradients by the input and the weight; none where the tensor is neither a variable nor made of
    /// any (the image that a network starts from).
    fn backward(
        &self,
        input: &Tensor,
        weight: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        let by_input = || gradient.apply_op2_no_bwd(weight, &DataGradient(*self));
        let by_weight = || input.apply_op2_no_bwd(gradient, &WeightGradient(*self));
        Ok([
            input.track_op().then(by_input).transpose()?,
            weight.track_op().then(by_weight).transpose()?,
        ])
    }

    fn mixed<T>(&self) -> Result<T> {
        candle_core::bail!("conv2d: expected tensors that are all f32 or all f64")
    }
}

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(
            Values::of(input, input_layout)?,
            Values::of(weight, weight_layout)?,
            None,
        )
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [by_input, by_weight] = self.backward(input, weight, &gradient.contiguous()?)?;
        Ok((by_input, by_weight))
    }
}

impl CustomOp3 for Convolution {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward(
            Values::of(input, input_layout)?,
            Values::of(weight, weight_layout)?,
            Some(Values::of(bias, bias_layout)?),
        )
    }

    fn bwd(
        &self,
        input: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let [by_input, by_weight] = self.backward(input, weight, &gradient)?;
        let by_bias = || gradient.apply_op1_no_bwd(&BiasGradient(*self));
        let by_bias = bias.track_op().then(by_bias).transpose()?;
        Ok((by_input, by_weight, by_bias))
    }
}

impl CustomOp2 for DataGradient {
    fn name(&self) -> &'static str {
        "conv2d-backward-data"
    }

    fn cpu_fwd(
        &self,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Convolution {
            geometry,
            algorithm,
        } = &self.0;
        let values = (
            Values::of(gradient, gradient_layout)?,
            Values::of(weight, weight_layout)?,
        );
        let storage = match values {
            (Values::F32(gradient), Values::F32(weight)) => {
                CpuStorage::F32(written(geometry.input_len(), |to| {
                    let (gradient, epilogue) = (Input::plain(gradient), Epilogue::default());
                    slices::backward_data_uninit(
                        geometry, *algorithm, gradient, weight, epilogue, to,
                    )
                    .map(|_| ())
                })?)
            }
            (Values::F64(gradient), Values::F64(weight)) => {
                CpuStorage::F64(reference::backward_data(geometry, gradient, weight))
            }
            _ => return self.0.mixed(),
        };
        let [h, w] = [geometry.height(), geometry.width()];
        Ok((
            storage,
            (geometry.batch(), geometry.in_channels(), h, w).into(),
        ))
    }
}

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "conv2d-backward-weight"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Convolution {
            geometry,
            algorithm,
        } = &self.0;
        let values = (
            Values::of(input, input_layout)?,
            Values::of(gradient, gradient_layout)?,
        );
        let storage = match values {
            (Values::F32(input), Values::F32(gradient)) => {
                let (input, gradient) = (Input::plain(input), Input::plain(gradient));
                let mut out = vec![0.0; geometry.weight_len()];
                slices::backward_weight(geometry, *algorithm, input, gradient, &mut out)?;
                CpuStorage::F32(out)
            }
            (Values::F64(input), Values::F64(gradient)) => {
                CpuStorage::F64(reference::backward_weight(geometry, input, gradient))
            }
            _ => return self.0.mixed(),
        };
        let k = geometry.kernel();
        Ok((
            storage,
            (geometry.out_channels(), geometry.in_channels(), k, k).into(),
        ))
    }
}

impl CustomOp1 for BiasGradient {
    fn name(&self) -> &'static str {
        "conv2d-backward-bias"
    }

    fn cpu_fwd(&self, gradient: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let geometry = &self.0.geometry;
        let storage = match Values::of(gradient, layout)? {
            Values::F32(gradient) => {
                let mut out = vec![0.0; geometry.out_channels()];
                slices::backward_bias(geometry, gradient, &mut out)?;
                CpuStorage::F32(out)
            }
            Values::F64(gradient) => CpuStorage::F64(reference::backward_bias(geometry, gradient)),
        };
        Ok((storage, geometry.out_channels().into()))
    }
}

/// The contiguous values of a tensor.
#[derive(Clone, Copy)]
enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl<'a> Values<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!(
                "conv2d: expected a contiguous tensor, got {:?} with strides {:?}",
                layout.dims(),
                layout.stride()
            )
        };
        match storage {
            CpuStorage::F32(values) => Ok(Values::F32(&values[start..end])),
            CpuStorage::F64(values) => Ok(Values::F64(&values[start..end])),
            _ => candle_core::bail!("conv2d: expected f32 or f64 values"),
        }
    }

    fn f32(self) -> Option<&'a [f32]> {
        match self {
            Values::F32(values) => Some(values),
            Values::F64(_) => None,
        }
    }

    fn f64(self) -> Option<&'a [f64]> {
        match self {
            Values::F64(values) => Some(values),
            Values::F32(_) => None,
        }
    }
}

/// A vector of `len` values that `write` writes, all of them when it succeeds.
fn written(
    len: usize,
    write: impl FnOnce(&mut [MaybeUninit<f32>]) -> Result<()>,
) -> Result<Vec<f32>> {
    let mut values = Vec::with_capacity(len);
    write(&mut values.spare_capacity_mut()[..len])?;
    // SAFETY: the capacity is at least `len`, and the `_uninit` functions of `slices`, the only callers'
    // writers, initialise every element before they return `Ok`.
    unsafe { values.set_len(len) };
    Ok(values)
}
