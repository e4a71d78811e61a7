//! Masked losses and their gradients on a GPU, in one pass after the mask is counted.

use candle_core::{Result, bail};

use crate::cuda::{Array, Launch, PARTS, Program, add_up, count};

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "masked_loss.cu",
    source: include_str!("masked_loss.cu"),
    kernels: &["kept", "masked_bce", "masked_mse", "masked_cross_entropy"],
};

/// As [`super::masked_mean`] of [`super::BinaryCrossEntropy`]: all arrays of one length.
///
/// # Errors
/// If lengths differ or the device fails.
pub fn masked_bce_with_logits(
    logits: &Array<f32>,
    target: &Array<f32>,
    mask: &Array<f32>,
    gradient: Option<&mut Array<f32>>,
) -> Result<f64> {
    pointwise("masked_bce", logits, target, mask, gradient)
}

/// As [`super::masked_mean`] of [`super::SquaredError`]: all arrays of one length.
///
/// # Errors
/// If lengths differ or the device fails.
pub fn masked_mse(
    prediction: &Array<f32>,
    target: &Array<f32>,
    mask: &Array<f32>,
    gradient: Option<&mut Array<f32>>,
) -> Result<f64> {
    pointwise("masked_mse", prediction, target, mask, gradient)
}

fn pointwise(
    kernel: &'static str,
    prediction: &Array<f32>,
    target: &Array<f32>,
    mask: &Array<f32>,
    gradient: Option<&mut Array<f32>>,
) -> Result<f64> {
    let len = prediction.len();
    mask.expect(kernel, "the mask", len)?;
    check(kernel, len, target, gradient.as_deref())?;
    let kept = kept(mask)?;
    let machine = prediction.machine();
    let mut parts = Array::room(machine, PARTS as usize)?;
    let launch = Launch::new(machine, &PROGRAM, kernel)
        .array(prediction)
        .array(target)
        .array(mask)
        .u32(count(kernel, len)?)
        .array(&kept)
        .maybe(gradient.as_deref())
        .out(&mut parts);
    // SAFETY: the arguments are the kernel's; arrays have `len` numbers, parts one a block; the gradient is borrowed
    // mutably.
    unsafe { launch.run(PARTS) }?;
    mean(&parts, &kept)
}

/// As [`super::cross_entropy`]: `logits`, `target` and `gradient` are `[B, classes, pixels]`, `mask` is `[B, pixels]`.
///
/// # Errors
/// If lengths do not fit or the device fails.
pub fn masked_cross_entropy(
    logits: &Array<f32>,
    target: &Array<f32>,
    mask: &Array<f32>,
    classes: usize,
    pixels: usize,
    gradient: Option<&mut Array<f32>>,
) -> Result<f64> {
    let (kernel, len) = ("masked_cross_entropy", logits.len());
    let image = classes * pixels;
    if image == 0 || !len.is_multiple_of(image) {
        bail!(
            "{kernel}: expected whole images of {classes} classes and {pixels} pixels, got {len} logits"
        )
    }
    mask.expect(kernel, "the mask", len / classes)?;
    check(kernel, len, target, gradient.as_deref())?;
    let kept = kept(mask)?;
    let machine = logits.machine();
    let mut parts = Array::room(machine, PARTS as usize)?;
    count(kernel, len)?;
    let launch = Launch::new(machine, &PROGRAM, kernel)
        .array(logits)
        .array(target)
        .array(mask)
        .u32(count(kernel, mask.len())?)
        .u32(count(kernel, classes)?)
        .u32(count(kernel, pixels)?)
        .array(&kept)
        .maybe(gradient.as_deref())
        .out(&mut parts);
    // SAFETY: the arguments are the kernel's; the mask has one number a pixel, the others one a class and pixel.
    unsafe { launch.run(PARTS) }?;
    mean(&parts, &kept)
}

fn check(
    kernel: &str,
    len: usize,
    target: &Array<f32>,
    gradient: Option<&Array<f32>>,
) -> Result<()> {
    target.expect(kernel, "the target", len)?;
    match gradient {
        Some(gradient) => gradient.expect(kernel, "the gradient", len),
        None => Ok(()),
    }
}

/// How many elements a mask keeps, in parts.
fn kept(mask: &Array<f32>) -> Result<Array<f64>> {
    let machine = mask.machine();
    let mut parts = Array::room(machine, PARTS as usize)?;
    let launch = Launch::new(machine, &PROGRAM, "kept")
        .array(mask)
        .u32(count("masked loss", mask.len())?)
        .out(&mut parts);
    // SAFETY: the arguments are the kernel's; the mask is as long as said, parts one a block.
    unsafe { launch.run(PARTS) }?;
    Ok(parts)
}

fn mean(parts: &Array<f64>, kept: &Array<f64>) -> Result<f64> {
    let kept = add_up(kept)?;
    Ok(if kept > 0.0 {
        add_up(parts)? / kept
    } else {
        0.0
    })
}
