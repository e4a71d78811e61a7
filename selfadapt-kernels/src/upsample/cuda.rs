//! Upsampling and its gradient on a GPU.

use candle_core::{Result, bail};

use crate::cuda::{Array, Launch, Program, blocks_for, count};

const NAME: &str = "upsample";

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "upsample.cu",
    source: include_str!("upsample.cu"),
    kernels: &[
        "nearest_2x",
        "nearest_2x_backward",
        "bilinear",
        "bilinear_backward",
    ],
};

type Size = (usize, usize);

/// Planes of `size` in `x`.
fn planes(x: &Array<f32>, (h, w): Size) -> Result<usize> {
    if h * w == 0 || !x.len().is_multiple_of(h * w) {
        bail!(
            "{NAME}: expected whole planes of {h} x {w}, got {} numbers",
            x.len()
        )
    }
    Ok(x.len() / (h * w))
}

/// Runs a kernel that writes planes of `to` from the planes `x`, and takes `sizes`.
fn run(
    kernel: &'static str,
    (x, planes): (&Array<f32>, usize),
    to: Size,
    sizes: &[usize],
) -> Result<Array<f32>> {
    count(NAME, x.len())?;
    let n = count(NAME, planes * to.0 * to.1)?;
    let mut y = Array::room(x.machine(), n as usize)?;
    let launch = Launch::new(x.machine(), &PROGRAM, kernel).array(x).u32(n);
    let launch = sizes.iter().fold(launch, |l, &size| l.u32(size as u32));
    // SAFETY: the arguments are the kernel's by the callers below; x has as many planes as y has, of the sizes said.
    unsafe { launch.out(&mut y).run(blocks_for(n)) }?;
    Ok(y)
}

/// Planes `x [.., h, w]` doubled, each pixel becoming four.
///
/// # Errors
/// If `x` is not of whole planes, or the device fails.
pub fn nearest_2x(x: &Array<f32>, (h, w): Size) -> Result<Array<f32>> {
    run(
        "nearest_2x",
        (x, planes(x, (h, w))?),
        (2 * h, 2 * w),
        &[h, w],
    )
}

/// The gradient by planes of `(h, w)` given that by their doubles, `dy`.
///
/// # Errors
/// If `dy` is not of whole planes, or the device fails.
pub fn nearest_2x_backward(dy: &Array<f32>, (h, w): Size) -> Result<Array<f32>> {
    let planes = planes(dy, (2 * h, 2 * w))?;
    run("nearest_2x_backward", (dy, planes), (h, w), &[h, w])
}

/// Planes `x` of size `from` sampled bilinearly to size `to`, half-pixel centres.
///
/// # Errors
/// If `x` is not of whole planes, a side is 0, or the device fails.
pub fn bilinear(x: &Array<f32>, from: Size, to: Size) -> Result<Array<f32>> {
    let planes = planes(x, from)?;
    if to.0 * to.1 == 0 {
        bail!(
            "{NAME}: expected sides of at least 1, got {} x {}",
            to.0,
            to.1
        )
    }
    run("bilinear", (x, planes), to, &[from.0, from.1, to.0, to.1])
}

/// The gradient by planes of size `from` given that by their samples of size `to`, `dy`.
///
/// # Errors
/// If `dy` is not of whole planes, a side is 0, or the device fails.
pub fn bilinear_backward(dy: &Array<f32>, from: Size, to: Size) -> Result<Array<f32>> {
    let planes = planes(dy, to)?;
    if from.0 * from.1 == 0 {
        bail!(
            "{NAME}: expected sides of at least 1, got {} x {}",
            from.0,
            from.1
        )
    }
    let sizes = [from.0, from.1, to.0, to.1];
    run("bilinear_backward", (dy, planes), from, &sizes)
}
