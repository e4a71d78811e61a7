//! Gathers pixels into instances by the places where their flows end.
//!
//! Cellpose 3.1.1's `dynamics.get_masks_torch` (its maximum-size rule included):
//! 1. `h[q]` counts the positions truncated to pixel `q`.
//! 2. Seeds are pixels with `h > 10` that no pixel of the 5 x 5 window around them exceeds.
//! 3. A seed's sink grows from it in 5 rounds to those of the 8 neighbours where `h > 2`, so within 11 x 11
//!    pixels. Where sinks overlap, the seed with the larger `h` wins.
//! 4. A pixel belongs to the sink that its flow ends in.
//! 5. Instances larger than a fraction of the image are dropped; the others are numbered in the order of
//!    their first pixel, row by row.
//!
//! Ties: the original sorts seeds by `h` with torch's `argsort`, whose order among equals is not promised.
//! Here the seed that comes later row by row wins, which is what a stable sort gives.

mod cpu;

use candle_core::{Result, bail};

use crate::objects::expect_size;

/// Instances `[height, width]` (0 is background, then `1..`) of the pixels `starts`, which ended at `ends`.
///
/// `starts` are row-major indices into the image, each at most once; `ends` are `(y, x)` in pixels. Instances
/// of more than `max_size_fraction` (0 to 1) of the image are dropped. Ends outside of the image count at its
/// nearest pixel (the original keeps up to 20 pixels above and left of it; flow following never leaves it).
///
/// # Errors
/// If there are not as many ends as starts, or a start lies outside of the image.
pub fn gather(
    starts: &[u32],
    ends: &[[f32; 2]],
    height: usize,
    width: usize,
    max_size_fraction: f64,
) -> Result<Vec<u32>> {
    expect_size("sinks", "image", height * width, [1, height, width])?;
    if starts.len() != ends.len() {
        bail!(
            "sinks: expected an end for each of {} starts, found {}",
            starts.len(),
            ends.len()
        );
    }
    if let Some(start) = starts
        .iter()
        .find(|&&start| start as usize >= height * width)
    {
        bail!(
            "sinks: expected starts below {height} x {width} = {}, found {start}",
            height * width
        );
    }
    Ok(cpu::gather(starts, ends, height, width, max_size_fraction))
}
