//! Quantiles by selection: exact, without sorting.
//!
//! As `numpy.quantile(method="linear")`: with n sorted values x and `t = q (n - 1)`, the quantile is
//! `x[k] + (t - k) (x[k + 1] - x[k])`, k being t rounded down. A histogram of the numbers' leading bits finds the
//! narrow range that holds x\[k\] and x\[k + 1\]; only that range is gathered and selected from.

use candle_core::{DType, Result, Tensor, bail};

use crate::storage::{check, image_dims, with_slice};

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(test)]
mod tests;

const NAME: &str = "quantile";

/// The `q`-quantile of `values`, q in `[0, 1]`.
///
/// # Errors
/// If there is no value, one is NaN, or q lies outside `[0, 1]`.
pub fn quantile(values: &[f32], q: f64) -> Result<f32> {
    match cpu::select(&[(values, None)], check_share(q)?)? {
        Some(found) => Ok(found),
        None => bail!("{NAME}: expected at least one value, got none"),
    }
}

/// The `q`-quantile of each channel of `x [B, C, H, W]` (f32) over images and pixels, of those that `mask` (the shape of
/// x, f32, 0 or 1) keeps; `None` for a channel that keeps nothing.
///
/// # Errors
/// If a kept value is NaN, q lies outside `[0, 1]`, or shapes or types do not fit.
pub fn quantile_per_channel(x: &Tensor, mask: Option<&Tensor>, q: f64) -> Result<Vec<Option<f32>>> {
    let (_, channels, h, w) = image_dims(NAME, x)?;
    check(NAME, "the input", x, x.dims(), DType::F32)?;
    let q = check_share(q)?;
    let find = |x: &[f32], mask: Option<&[f32]>| {
        (0..channels)
            .map(|c| {
                let planes = |values| plane_slices(values, c, channels, h * w);
                let masks = mask.map(planes);
                let parts: Vec<(&[f32], Option<&[f32]>)> = planes(x)
                    .into_iter()
                    .enumerate()
                    .map(|(i, plane)| (plane, masks.as_ref().map(|m| m[i])))
                    .collect();
                cpu::select(&parts, q)
            })
            .collect()
    };
    with_slice(NAME, "the input", &x.contiguous()?, |x_values| match mask {
        None => find(x_values, None),
        Some(mask) => {
            check(NAME, "the mask", mask, x.dims(), DType::F32)?;
            with_slice(NAME, "the mask", &mask.contiguous()?, |mask| {
                find(x_values, Some(mask))
            })
        }
    })
}

/// Channel `c` of every image of `[B, channels, pixels]`.
fn plane_slices(values: &[f32], c: usize, channels: usize, pixels: usize) -> Vec<&[f32]> {
    values
        .chunks_exact(pixels.max(1))
        .skip(c)
        .step_by(channels)
        .collect()
}

fn check_share(q: f64) -> Result<f64> {
    if !(0.0..=1.0).contains(&q) {
        bail!("{NAME}: expected a share between 0 and 1, got {q}")
    }
    Ok(q)
}
