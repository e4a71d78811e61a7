//! Max pooling and its gradient on a GPU.

use candle_core::{Result, bail};

use super::{NAME, Window};
use crate::cuda::{Array, Launch, Program, blocks_for, count};

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "max_pool.cu",
    source: include_str!("max_pool.cu"),
    kernels: &["max_pool", "max_pool_backward"],
};

/// Planes of `x`, once the window fits.
fn planes(x: &Array<f32>, window: Window) -> Result<usize> {
    let Window {
        height,
        width,
        kernel,
        stride,
    } = window;
    if kernel == 0 || stride == 0 || height < kernel || width < kernel {
        bail!(
            "{NAME}: expected a kernel and a stride of at least 1 and planes of at least the kernel, got {window:?}"
        )
    }
    if !x.len().is_multiple_of(window.inputs()) {
        bail!(
            "{NAME}: expected whole planes of {height} x {width}, got {} numbers",
            x.len()
        )
    }
    count(NAME, x.len())?;
    Ok(x.len() / window.inputs())
}

fn sizes(launch: Launch<'_>, window: Window) -> Launch<'_> {
    launch
        .u32(window.height as u32)
        .u32(window.width as u32)
        .u32(window.kernel as u32)
        .u32(window.stride as u32)
}

/// The pooled planes of `x`, as [`super::forward`].
///
/// # Errors
/// If the window does not fit, `x` is not of whole planes, or the device fails.
pub fn forward(x: &Array<f32>, window: Window) -> Result<Array<f32>> {
    let outputs = planes(x, window)? * window.outputs();
    let mut y = Array::room(x.machine(), outputs)?;
    let n = count(NAME, outputs)?;
    let launch = Launch::new(x.machine(), &PROGRAM, "max_pool")
        .array(x)
        .u32(n);
    let launch = sizes(launch, window).out(&mut y);
    // SAFETY: the arguments are the kernel's; y has `n` pixels, of as many planes as x.
    unsafe { launch.run(blocks_for(n)) }?;
    Ok(y)
}

/// The gradient by `x` given that by the pooled planes, as [`super::backward`].
///
/// # Errors
/// If the window does not fit, lengths do not either, or the device fails.
pub fn backward(x: &Array<f32>, dy: &Array<f32>, window: Window) -> Result<Array<f32>> {
    dy.expect(NAME, "the gradient", planes(x, window)? * window.outputs())?;
    let mut dx = Array::room(x.machine(), x.len())?;
    let n = count(NAME, x.len())?;
    let launch = Launch::new(x.machine(), &PROGRAM, "max_pool_backward")
        .array(x)
        .array(dy)
        .u32(n);
    let launch = sizes(launch, window).out(&mut dx);
    // SAFETY: the arguments are the kernel's; x and dx have `n` pixels, dy the windows of as many planes.
    unsafe { launch.run(blocks_for(n)) }?;
    Ok(dx)
}
