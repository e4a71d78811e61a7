//! Max pooling: `y[i, j]` is the largest of the `kernel x kernel` inputs from `(i * stride, j * stride)` on.
//!
//! As in PyTorch's `max_pool2d`: no padding, the output size is rounded down, NaN wins, and the gradient of
//! a window goes whole to its first maximum in row order; where windows overlap, gradients add up.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};

use crate::storage::{filled, image_dims, slice, unsupported, with_slice};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

pub(crate) use cpu::add_backward_plane;
pub use cpu::{Window, backward, forward};

const NAME: &str = "max_pool2d";

/// Pools `x [B, C, H, W]` (f32 or f64) to `[B, C, (H - kernel) / stride + 1, (W - kernel) / stride + 1]`.
///
/// # Errors
/// If `kernel` or `stride` is 0 or the image is smaller than the kernel, or has 2^32 pixels.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize) -> Result<Tensor> {
    let (_, _, h, w) = image_dims(NAME, x)?;
    if kernel == 0 || stride == 0 {
        bail!("{NAME}: expected a kernel and a stride of at least 1, got {kernel} and {stride}")
    }
    if h < kernel || w < kernel {
        bail!("{NAME}: expected an image of at least {kernel}x{kernel}, got {h}x{w}")
    }
    if u32::try_from(h * w).is_err() {
        bail!("{NAME}: expected fewer than 2^32 pixels, got {h}x{w}; cut the image into tiles")
    }
    x.contiguous()?.apply_op1(MaxPool { kernel, stride })
}

struct MaxPool {
    kernel: usize,
    stride: usize,
}

impl MaxPool {
    fn window(&self, h: usize, w: usize) -> Window {
        Window {
            height: h,
            width: w,
            kernel: self.kernel,
            stride: self.stride,
        }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: WithDType>(x: &[T], planes: usize, window: Window) -> CpuStorage {
            // SAFETY: `forward` writes every element of the output.
            let y = unsafe { filled(planes * window.outputs(), |y| forward(x, window, y)) };
            T::to_cpu_storage_owned(y)
        }
        let (b, c, h, w) = layout.shape().dims4()?;
        let window = self.window(h, w);
        let y = match storage {
            CpuStorage::F32(_) => {
                run::<f32>(slice(NAME, "the input", storage, layout)?, b * c, window)
            }
            CpuStorage::F64(_) => {
                run::<f64>(slice(NAME, "the input", storage, layout)?, b * c, window)
            }
            _ => return unsupported(NAME, storage.dtype()),
        };
        Ok((y, (b, c, window.out_height(), window.out_width()).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        fn run<T: WithDType>(x: &Tensor, grad: &Tensor, window: Window) -> Result<Tensor> {
            let dx = with_slice::<T, _>(NAME, "the input", x, |xs| {
                with_slice::<T, _>(NAME, "the gradient", grad, |gs| {
                    // SAFETY: `backward` writes every element of the gradient.
                    Ok(unsafe { filled(xs.len(), |dx| backward(xs, gs, window, dx)) })
                })
            })?;
            Tensor::from_vec(dx, x.dims(), x.device())
        }
        let (_, _, h, w) = x.dims4()?;
        let (grad, window) = (grad.contiguous()?, self.window(h, w));
        match x.dtype() {
            DType::F32 => run::<f32>(x, &grad, window).map(Some),
            DType::F64 => run::<f64>(x, &grad, window).map(Some),
            other => unsupported(NAME, other),
        }
    }
}
