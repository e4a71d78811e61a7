//! Turns flows and cell logits into an instance image, as Cellpose does.
//!
//! Cellpose 3.1.1's `dynamics.resize_and_compute_masks` without resizing: pixels above the logit threshold
//! follow the flows ([`crate::follow_flows`]), gather in sinks ([`crate::sinks`]), instances whose flows do
//! not fit are dropped ([`crate::flow_error`]), holes are filled and small instances dropped
//! ([`crate::fill_holes`]).

use candle_core::{Result, bail};

use crate::fill_holes::{fill_holes_and_remove_small, number_by_first_pixel};
use crate::flow_error::remove_bad_flow_masks;
use crate::follow_flows::{Field, follow_flows};
use crate::objects::expect_size;
use crate::sinks::gather;

/// Settings of [`compute_masks`]; the default is Cellpose's.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskParams {
    /// Pixels with a larger cell logit belong to cells. 0 by default; typically -6 to 6.
    pub cellprob_threshold: f32,
    /// Instances with a larger flow error are dropped; 0 keeps all. 0.4 by default.
    pub flow_threshold: f64,
    /// Instances of fewer pixels are dropped; 0 keeps all. 15 by default.
    pub min_size: usize,
    /// Instances larger than this fraction of the image are dropped. 0.4 by default.
    pub max_size_fraction: f64,
    /// Steps along the flows. 200 by default; Cellpose takes `200 / rescale` for a rescaled image.
    pub niter: usize,
    /// Whether flows are interpolated between pixels. On by default.
    pub interp: bool,
}

impl Default for MaskParams {
    fn default() -> Self {
        Self {
            cellprob_threshold: 0.0,
            flow_threshold: 0.4,
            min_size: 15,
            max_size_fraction: 0.4,
            niter: 200,
            interp: true,
        }
    }
}

/// Instances `[height, width]` of `flows` `[2, height, width]` (`(dy, dx)`, 5 times unit length) and
/// `cellprob` `[height, width]` (logits): 0 is background, instances are `1..`, each number in use (with
/// `min_size` 0 too).
///
/// Flows that are not finite count as 0; a logit that is not a number belongs to no cell. Without a cell the
/// result is all 0.
///
/// # Errors
/// If `flows` or `cellprob` has another size, or a threshold is not a number.
pub fn compute_masks(
    params: &MaskParams,
    flows: &[f32],
    cellprob: &[f32],
    height: usize,
    width: usize,
) -> Result<Vec<u32>> {
    let labels = gather_masks(params, flows, cellprob, height, width)?;
    fill_holes_and_remove_small(&labels, height, width, params.min_size)
}

/// The part of an image that [`compute_masks_of_part`] sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Row and column of its first pixel.
    pub origin: [usize; 2],
    /// Height and width of the whole image.
    pub image: [usize; 2],
}

/// As [`compute_masks`], for the part `[height, width]` of a larger image: an instance that lies in the part together
/// with all that flows into it comes out with the pixels that it has in the whole image.
///
/// One thing differs: small instances are dropped by their own area, not by that of their rank's (see
/// [`crate::fill_holes`]), as ranks are those of the whole image.
///
/// # Errors
/// As [`compute_masks`], and if the part ends beyond the image.
pub fn compute_masks_of_part(
    params: &MaskParams,
    flows: &[f32],
    cellprob: &[f32],
    [height, width]: [usize; 2],
    part: Part,
) -> Result<Vec<u32>> {
    let end = |axis: usize, length: usize| part.origin[axis].checked_add(length);
    let fits = |axis, length| end(axis, length).is_some_and(|end| end <= part.image[axis]);
    if !fits(0, height) || !fits(1, width) {
        bail!(
            "compute_masks: expected a part of an image of {:?} pixels, found {height} x {width} at {:?}",
            part.image,
            part.origin
        );
    }
    let share = part.image.iter().map(|&side| side as f64).product::<f64>()
        / (height as f64 * width as f64).max(1.0);
    let whole = MaskParams {
        // Of the image, not of the part.
        max_size_fraction: params.max_size_fraction * share,
        ..params.clone()
    };
    let mut labels = gather_from(&whole, flows, cellprob, height, width, part.origin)?;
    // Without gaps the rank of an instance is its label.
    let largest = labels.iter().copied().max().unwrap_or(0) as usize;
    number_by_first_pixel(&mut labels, largest, |_| true);
    fill_holes_and_remove_small(&labels, height, width, params.min_size)
}

/// As [`compute_masks`], before holes are filled and small instances dropped; labels may have gaps.
///
/// # Errors
/// As [`compute_masks`].
pub fn gather_masks(
    params: &MaskParams,
    flows: &[f32],
    cellprob: &[f32],
    height: usize,
    width: usize,
) -> Result<Vec<u32>> {
    gather_from(params, flows, cellprob, height, width, [0; 2])
}

fn gather_from(
    params: &MaskParams,
    flows: &[f32],
    cellprob: &[f32],
    height: usize,
    width: usize,
    origin: [usize; 2],
) -> Result<Vec<u32>> {
    expect_size("compute_masks", "flows", flows.len(), [2, height, width])?;
    expect_size(
        "compute_masks",
        "cellprob",
        cellprob.len(),
        [1, height, width],
    )?;
    for (name, value) in [
        ("cellprob_threshold", f64::from(params.cellprob_threshold)),
        ("flow_threshold", params.flow_threshold),
        ("max_size_fraction", params.max_size_fraction),
    ] {
        if value.is_nan() {
            bail!("compute_masks: {name}: expected a number, found {value}");
        }
    }
    let starts: Vec<u32> = (0..)
        .zip(cellprob)
        .filter(|(_, logit)| **logit > params.cellprob_threshold)
        .map(|(pixel, _)| pixel)
        .collect();
    if starts.is_empty() {
        return Ok(vec![0; cellprob.len()]);
    }
    let field =
        Field::of_network(flows, cellprob, params.cellprob_threshold, height, width)?.at(origin)?;
    let mut ends = follow_flows(&field, &starts, params.niter, params.interp)?;
    if origin != [0; 2] {
        let [top, left] = origin.map(|at| at as f32);
        // Exact: the difference has no finer steps than the position.
        ends.iter_mut()
            .for_each(|[y, x]| (*y, *x) = (*y - top, *x - left));
    }
    let mut labels = gather(&starts, &ends, height, width, params.max_size_fraction)?;
    if params.flow_threshold > 0.0 {
        labels = remove_bad_flow_masks(&labels, flows, height, width, params.flow_threshold)?;
    }
    Ok(labels)
}
