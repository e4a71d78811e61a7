//! Upsampling of image batches `[B, C, H, W]`: nearest by two, and bilinear to any size.
//!
//! Nearest: `y[2i + a, 2j + b] = x[i, j]` for a, b in {0, 1}; a pixel's gradient is the sum over its copies.
//! Bilinear, as PyTorch's `interpolate(mode="bilinear", align_corners=False)` without antialiasing: sample i of
//! an axis of n pixels drawn to m lies at `max(0, (i + 1/2) n / m - 1/2)`, between two pixels that share it by
//! distance; a pixel's gradient is the sum over the samples by the same weights.

use std::marker::PhantomData;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};

use crate::storage::{filled, image_dims, slice, unsupported, with_slice};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

pub use cpu::{
    bilinear as bilinear_forward, bilinear_backward, nearest_2x as nearest_2x_forward,
    nearest_2x_backward,
};

/// Doubles both sides of `x [B, C, H, W]` (f32 or f64), each pixel becoming four.
///
/// # Errors
/// If `x` has other axes or another type.
pub fn nearest_2x(x: &Tensor) -> Result<Tensor> {
    let (_, _, h, w) = image_dims(Nearest::NAME, x)?;
    x.contiguous()?.apply_op1(Upsample::<Nearest> {
        to: (2 * h, 2 * w),
        method: PhantomData,
    })
}

/// Samples `x [B, C, H, W]` (f32 or f64) bilinearly to `[B, C, out_h, out_w]`, half-pixel centres.
///
/// # Errors
/// If a side of the input or the output is 0.
pub fn bilinear(x: &Tensor, out_h: usize, out_w: usize) -> Result<Tensor> {
    let (_, _, h, w) = image_dims(Bilinear::NAME, x)?;
    if h == 0 || w == 0 || out_h == 0 || out_w == 0 {
        bail!(
            "{}: expected sides of at least 1, got {h}x{w} to {out_h}x{out_w}",
            Bilinear::NAME
        )
    }
    x.contiguous()?.apply_op1(Upsample::<Bilinear> {
        to: (out_h, out_w),
        method: PhantomData,
    })
}

type Size = (usize, usize);

/// One way to upsample, on slices of whole planes.
trait Method: Send + Sync + 'static {
    const NAME: &'static str;

    fn forward<T: WithDType>(x: &[T], from: Size, to: Size, len: usize) -> Vec<T>;

    fn backward<T: WithDType>(dy: &[T], from: Size, to: Size, len: usize) -> Vec<T>;
}

struct Nearest;

impl Method for Nearest {
    const NAME: &'static str = "upsample nearest_2x";

    fn forward<T: WithDType>(x: &[T], from: Size, _: Size, len: usize) -> Vec<T> {
        // SAFETY: `nearest_2x` writes every element.
        unsafe { filled(len, |y| cpu::nearest_2x(x, from.0, from.1, y)) }
    }

    fn backward<T: WithDType>(dy: &[T], from: Size, _: Size, len: usize) -> Vec<T> {
        // SAFETY: `nearest_2x_backward` writes every element.
        unsafe { filled(len, |dx| nearest_2x_backward(dy, from.0, from.1, dx)) }
    }
}

struct Bilinear;

impl Method for Bilinear {
    const NAME: &'static str = "upsample bilinear";

    fn forward<T: WithDType>(x: &[T], from: Size, to: Size, len: usize) -> Vec<T> {
        // SAFETY: `bilinear` writes every element.
        unsafe { filled(len, |y| cpu::bilinear(x, from, to, y)) }
    }

    fn backward<T: WithDType>(dy: &[T], from: Size, to: Size, len: usize) -> Vec<T> {
        // SAFETY: `bilinear_backward` writes every element.
        unsafe { filled(len, |dx| bilinear_backward(dy, from, to, dx)) }
    }
}

struct Upsample<M> {
    to: Size,
    method: PhantomData<M>,
}

impl<M: Method> CustomOp1 for Upsample<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<M: Method, T: WithDType>(
            storage: &CpuStorage,
            layout: &Layout,
            to: Size,
        ) -> Result<CpuStorage> {
            let (b, c, h, w) = layout.shape().dims4()?;
            let x = slice::<T>(M::NAME, "the input", storage, layout)?;
            let y = M::forward(x, (h, w), to, b * c * to.0 * to.1);
            Ok(T::to_cpu_storage_owned(y))
        }
        let (b, c, _, _) = layout.shape().dims4()?;
        let y = match storage.dtype() {
            DType::F32 => run::<M, f32>(storage, layout, self.to)?,
            DType::F64 => run::<M, f64>(storage, layout, self.to)?,
            other => return unsupported(M::NAME, other),
        };
        Ok((y, (b, c, self.to.0, self.to.1).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        fn run<M: Method, T: WithDType>(x: &Tensor, grad: &Tensor, to: Size) -> Result<Tensor> {
            let (_, _, h, w) = x.dims4()?;
            let dx = with_slice::<T, _>(M::NAME, "the gradient", grad, |dy| {
                Ok(M::backward(dy, (h, w), to, x.elem_count()))
            })?;
            Tensor::from_vec(dx, x.dims(), x.device())
        }
        let grad = grad.contiguous()?;
        match x.dtype() {
            DType::F32 => run::<M, f32>(x, &grad, self.to).map(Some),
            DType::F64 => run::<M, f64>(x, &grad, self.to).map(Some),
            other => unsupported(M::NAME, other),
        }
    }
}
