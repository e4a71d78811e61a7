//! Contrast-limited adaptive histogram equalisation, as scikit-image's `exposure.equalize_adapthist` does it.
//!
//! Zuiderveld 1994 ("Graphics Gems IV"), the variant of scikit-image 0.19 to 0.26: the image is quantised, the histogram
//! of each square region is clipped and its excess spread, and a pixel's value is interpolated between the mappings of
//! the four regions around it. Step by step in the same number types, so that results are the same to the bit.

mod cpu;
#[cfg(test)]
mod tests;

use candle_core::{Result, bail};

use crate::objects::expect_size;

/// Share of a region's pixels that one bin may keep (scikit-image's default).
pub const CLIP_LIMIT: f64 = 0.01;

/// Equalises `image` `[height, width]`, whose values lie in 0 to 1, in regions of `side` pixels; the result spans 0 to
/// 1, or is the quantised image clipped to that range where it is constant.
///
/// # Errors
/// If `image` does not hold `height * width` numbers or one lies outside 0 to 1, or `side` is not in 2 to 8192.
pub fn clahe(image: &[f32], height: usize, width: usize, side: usize) -> Result<Vec<f32>> {
    expect_size("clahe", "image", image.len(), [1, height, width])?;
    if !(2..=8192).contains(&side) {
        bail!("clahe: expected regions of 2 to 8192 pixels, found {side}");
    }
    if let Some(value) = image.iter().find(|value| !(0. ..=1.).contains(*value)) {
        bail!("clahe: expected values of 0 to 1, found {value}");
    }
    if image.is_empty() {
        return Ok(Vec::new());
    }
    let gray = cpu::quantised(image);
    let equalised = cpu::equalised(&gray, (height, width), side, CLIP_LIMIT);
    Ok(cpu::stretched(&equalised))
}
