//! Moves pixels along a flow field until they gather at the centres of their cells.
//!
//! Euler's method with steps of one field vector each: `p <- clamp(p + F(p), 0, size - 1)`, `F` bilinear
//! between pixel centres. Positions agree bit by bit with those of Cellpose 3.1.1 on a CPU
//! (`dynamics.follow_flows`, `steps_interp`, `map_coordinates`): they are `f32`, truncated toward zero for the
//! pixel they lie in. With fractions `y`, `x` (`f32`) and the vectors `a b` above, `c d` below, a step is
//! `a (1 - y) (1 - x) + b (1 - y) x + c y (1 - x) + d y x`, where `1 - y`, `1 - x` and the sum are `f64`,
//! `c y` and `d y x` are `f32`, and the sum is rounded to `f32` before it is added.

mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

use candle_core::{Result, bail};

use crate::objects::expect_size;

/// A flow field laid out for [`follow_flows`]: `(dy, dx)` in pixels per step, side by side.
///
/// It has one more row and column than the image, copies of the last ones, so that every pixel has a
/// neighbour below and to its right.
pub struct Field {
    steps: Vec<[f32; 2]>,
    height: usize,
    width: usize,
    /// Row and column of its first pixel in the image that positions are counted in.
    origin: [usize; 2],
}

impl Field {
    /// Takes steps `[2, height, width]`, `(dy, dx)` in pixels.
    ///
    /// Numbers that are not finite count as 0 (the original would carry them along and lose the pixel).
    ///
    /// # Errors
    /// If `steps` has another size.
    pub fn new(steps: &[f32], height: usize, width: usize) -> Result<Self> {
        Self::build(steps, height, width, |_, step| step)
    }

    /// Takes a network's flows `[2, height, width]`, which are 5 times a step, and its cell logits
    /// `[height, width]`; steps are 0 where the logit does not exceed `threshold`.
    ///
    /// As `dP * (cellprob > threshold) / 5` in Cellpose. Numbers that are not finite count as 0.
    ///
    /// # Errors
    /// If `flows` or `cellprob` has another size.
    pub fn of_network(
        flows: &[f32],
        cellprob: &[f32],
        threshold: f32,
        height: usize,
        width: usize,
    ) -> Result<Self> {
        expect_size(
            "follow_flows",
            "cellprob",
            cellprob.len(),
            [1, height, width],
        )?;
        Self::build(flows, height, width, |pixel, flow| {
            if cellprob[pixel] > threshold {
                flow / 5.0
            } else {
                0.0
            }
        })
    }

    fn build(
        flows: &[f32],
        height: usize,
        width: usize,
        step: impl Fn(usize, f32) -> f32,
    ) -> Result<Self> {
        expect_size("follow_flows", "flows", flows.len(), [2, height, width])?;
        if height.max(width) > 1 << f32::MANTISSA_DIGITS {
            bail!(
                "follow_flows: an image of {height} x {width} pixels is too long for f32 positions, at most \
                 2^{} pixels a side are possible; cut it into pieces",
                f32::MANTISSA_DIGITS
            );
        }
        let (dy, dx) = flows.split_at(height * width);
        let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
        let mut steps = Vec::with_capacity((height + 1) * (width + 1));
        if height * width > 0 {
            for y in (0..height).chain([height - 1]) {
                steps.extend((0..width).chain([width - 1]).map(|x| {
                    let pixel = y * width + x;
                    [
                        step(pixel, finite(dy[pixel])),
                        step(pixel, finite(dx[pixel])),
                    ]
                }));
            }
        }
        Ok(Self {
            steps,
            height,
            width,
            origin: [0; 2],
        })
    }

    /// The same field as the part of a larger image whose first pixel is `origin` (row, column): positions are counted
    /// in that image, so that their rounding is that of the whole.
    ///
    /// # Errors
    /// If it then ends beyond 2^24 pixels along an axis.
    pub fn at(mut self, origin: [usize; 2]) -> Result<Self> {
        let end = origin[0]
            .saturating_add(self.height)
            .max(origin[1].saturating_add(self.width));
        if end > 1 << f32::MANTISSA_DIGITS {
            bail!(
                "follow_flows: an image of {end} pixels is too long for f32 positions, at most 2^{} pixels a side are \
                 possible; cut it into pieces",
                f32::MANTISSA_DIGITS
            );
        }
        self.origin = origin;
        Ok(self)
    }
}

/// Where the pixels `starts` (row-major indices into the field) are after `steps` steps: `(y, x)` in pixels, counted
/// from the field's origin of [`Field::at`].
///
/// With `interpolate` off the field is constant within a pixel (Cellpose's `interp=False`). A pixel that
/// comes to rest is not computed further, which changes nothing. Pixels are independent of each other, so
/// the result is the same for any number of threads.
///
/// # Errors
/// If a start lies outside of the image.
pub fn follow_flows(
    field: &Field,
    starts: &[u32],
    steps: usize,
    interpolate: bool,
) -> Result<Vec<[f32; 2]>> {
    check_starts(field, starts)?;
    Ok(if interpolate {
        cpu::interpolated(field, starts, steps)
    } else {
        cpu::by_pixel(field, starts, steps)
    })
}

/// Refuses starts outside of the image.
fn check_starts(field: &Field, starts: &[u32]) -> Result<()> {
    let pixels = field.height * field.width;
    if let Some(start) = starts.iter().find(|&&start| start as usize >= pixels) {
        bail!(
            "follow_flows: expected starts below {} x {} = {pixels}, found {start}",
            field.height,
            field.width
        );
    }
    Ok(())
}
