//! Fills the holes of instances, drops small ones and those at the border, and numbers the rest.
//!
//! Cellpose 3.1.1's `utils.fill_holes_and_remove_small_masks` and `utils.remove_edge_masks`, with the
//! package's own ways: see [`fill_holes_and_remove_small`].

mod cpu;

use candle_core::Result;

use crate::objects::{Numbering, expect_size, locate};

/// Drops instances below `min_size` pixels, fills holes, drops small ones again; numbers the rest `1..`.
///
/// `labels` `[height, width]`, 0 is background. A hole is background of an instance's bounding box that no
/// path of 4-neighbours joins to the box's edge (SciPy's `binary_fill_holes`, `fill_voids.fill`); it takes over
/// whatever lies in it, other instances too. Instances are filled by ascending label. Each dropping
/// renumbers in the order of first pixels, row by row; with `min_size` 0 nothing is dropped, and labels are
/// closed up in their own order.
///
/// Cellpose looks up small instances by their rank among the labels, not by their labels. On labels with
/// gaps (which the flow check leaves behind) it so may drop another instance than the small one. This
/// function does the same, for the sake of equal masks; renumber first to avoid it.
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn fill_holes_and_remove_small(
    labels: &[u32],
    height: usize,
    width: usize,
    min_size: usize,
) -> Result<Vec<u32>> {
    expect_size("fill_holes", "labels", labels.len(), [1, height, width])?;
    let mut labels = labels.to_vec();
    cpu::remove_small(&mut labels, min_size);
    cpu::fill_holes(&mut labels, width);
    cpu::remove_small(&mut labels, min_size);
    Ok(labels)
}

/// Drops instances that touch the image's border and numbers the rest `1..` in the order of their labels.
///
/// Cellpose's `utils.remove_edge_masks`.
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn remove_edge_masks(labels: &[u32], height: usize, width: usize) -> Result<Vec<u32>> {
    expect_size(
        "remove_edge_masks",
        "labels",
        labels.len(),
        [1, height, width],
    )?;
    let numbering = Numbering::new(labels);
    let mut kept = 0;
    let new: Vec<u32> = locate(labels, width, &numbering)
        .iter()
        .map(|object| {
            let inside = object.rows.start > 0
                && object.rows.end < height
                && object.columns.start > 0
                && object.columns.end < width;
            kept += u32::from(inside);
            if inside { kept } else { 0 }
        })
        .collect();
    let number = |&label: &u32| match label {
        0 => 0,
        _ => new[numbering.place(label)],
    };
    Ok(labels.iter().map(number).collect())
}

/// Numbers the labels `1..=largest` anew in the order of their first pixels, 0 for those not kept.
///
/// `fastremap.renumber`, after `fastremap.mask`.
pub(crate) fn number_by_first_pixel(
    labels: &mut [u32],
    largest: usize,
    keep: impl Fn(u32) -> bool,
) {
    let mut new = vec![u32::MAX; largest + 1];
    let mut count = 0;
    for label in labels.iter_mut().filter(|label| **label != 0) {
        let number = &mut new[*label as usize];
        if *number == u32::MAX {
            let kept = keep(*label);
            count += u32::from(kept);
            *number = if kept { count } else { 0 };
        }
        *label = *number;
    }
}
