//! The outlines of objects, as OpenCV's `findContours` gives them to Cellpose.

use std::io::Write;
use std::path::Path;

use image::{GrayImage, Luma};
use imageproc::contours::{BorderType, find_contours};
use ndarray::Array2;
use rayon::prelude::*;

use super::atomic;
use crate::error::{Error, Result};
use crate::labels::Labels;

/// An outline has more points than this, or it counts as none (`utils.outlines_list` of Cellpose).
const FEWEST_POINTS: usize = 4;

/// Corner points `[x, y]` of pixels along a border, in order, 8-connected.
pub type Outline = Vec<[u32; 2]>;

/// The outline of every object, entry `i` for label `i + 1`: the longest outer border, or nothing if it has four
/// points or fewer (`utils.outlines_list` of Cellpose 3.1.1).
pub fn outlines(labels: &Labels) -> Vec<Outline> {
    let borders = outer_borders(labels);
    borders
        .into_iter()
        .map(|borders| {
            // Of equally long ones the last: OpenCV lists them from the bottom, and Cellpose takes its first.
            let longest = borders.into_iter().max_by_key(Vec::len).unwrap_or_default();
            if longest.len() > FEWEST_POINTS {
                longest
            } else {
                Vec::new()
            }
        })
        .collect()
}

/// Which pixels `[H, W]` lie on the outer border of their object (`utils.masks_to_outlines` of Cellpose 3.1.1).
pub fn outline_pixels(labels: &Labels) -> Array2<bool> {
    let mut on = Array2::from_elem(labels.size(), false);
    for [x, y] in outer_borders(labels).into_iter().flatten().flatten() {
        on[[y as usize, x as usize]] = true;
    }
    on
}

/// All outer borders of every object that lie in no hole of it, in raster order of their first points.
pub(super) fn outer_borders(labels: &Labels) -> Vec<Vec<Outline>> {
    let pixels = labels.pixels();
    boxes(labels)
        .into_par_iter()
        .enumerate()
        .map(
            |(
                index,
                Box {
                    top,
                    left,
                    bottom,
                    right,
                },
            )| {
                let label = index as u32 + 1;
                // A margin of one pixel: the border finder does not look left of the first column.
                let crop = GrayImage::from_fn(
                    (right - left + 3) as u32,
                    (bottom - top + 3) as u32,
                    |x, y| {
                        let (row, column) = (y as usize + top, x as usize + left);
                        let inside = row > 0
                            && column > 0
                            && pixels
                                .get((row - 1, column - 1))
                                .is_some_and(|&found| found == label);
                        Luma([u8::from(inside)])
                    },
                );
                find_contours::<u32>(&crop)
                    .into_iter()
                    .filter(|border| {
                        border.border_type == BorderType::Outer && border.parent.is_none()
                    })
                    .map(|border| {
                        let points = border.points.into_iter();
                        points
                            .map(|p| [p.x + left as u32 - 1, p.y + top as u32 - 1])
                            .collect()
                    })
                    .collect()
            },
        )
        .collect()
}

/// First and last rows and columns of an object.
struct Box {
    top: usize,
    left: usize,
    bottom: usize,
    right: usize,
}

fn boxes(labels: &Labels) -> Vec<Box> {
    let mut boxes: Vec<Box> = (0..labels.count())
        .map(|_| Box {
            top: usize::MAX,
            left: usize::MAX,
            bottom: 0,
            right: 0,
        })
        .collect();
    for ((row, column), &label) in labels.pixels().indexed_iter() {
        if let Some(found) = (label as usize)
            .checked_sub(1)
            .and_then(|index| boxes.get_mut(index))
        {
            found.top = found.top.min(row);
            found.bottom = found.bottom.max(row);
            found.left = found.left.min(column);
            found.right = found.right.max(column);
        }
    }
    boxes
}

/// Writes `x,y,x,y,...` a line per object, atomically (`io.outlines_to_text` of Cellpose 3.1.1; ImageJ macros read it).
/// Objects without an outline leave an empty line.
///
/// # Errors
/// If the file cannot be written.
pub fn write_text(path: impl AsRef<Path>, labels: &Labels) -> Result<()> {
    let path = path.as_ref();
    atomic::write(path, |sink| {
        for outline in outlines(labels) {
            let numbers: Vec<String> = outline.iter().flatten().map(u32::to_string).collect();
            writeln!(sink, "{}", numbers.join(",")).map_err(|error| Error::write(path, error))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Digits are labels, anything else is background.
    fn labels(rows: &[&str]) -> Labels {
        let pixels = rows
            .iter()
            .flat_map(|row| row.chars())
            .map(|c| c.to_digit(10).unwrap_or(0));
        Labels::from_rows(rows.len(), rows[0].len(), pixels.collect()).unwrap()
    }

    #[test]
    fn a_square_runs_down_from_its_first_pixel() {
        // As cv2.findContours(RETR_EXTERNAL, CHAIN_APPROX_NONE) returns it.
        let square = labels(&["111", "111", "111"]);
        let expected = vec![
            [0, 0],
            [0, 1],
            [0, 2],
            [1, 2],
            [2, 2],
            [2, 1],
            [2, 0],
            [1, 0],
        ];
        assert_eq!(outlines(&square), vec![expected]);
    }

    #[test]
    fn thin_objects_are_walked_both_ways() {
        let hook = labels(&["........", "........", "...1111.", "..1.....", ".1......"]);
        let expected = vec![
            [3, 2],
            [2, 3],
            [1, 4],
            [2, 3],
            [3, 2],
            [4, 2],
            [5, 2],
            [6, 2],
            [5, 2],
            [4, 2],
        ];
        assert_eq!(outlines(&hook), vec![expected]);
    }

    #[test]
    fn holes_and_what_lies_in_them_have_no_outline() {
        let ring = labels(&["1111111", "1.....1", "1..1..1", "1.....1", "1111111"]);
        let on = outline_pixels(&ring);
        assert!(!on[[2, 3]]);
        assert_eq!(on.iter().filter(|&&on| on).count(), 20);
    }

    #[test]
    fn objects_of_few_pixels_have_none() {
        let two = labels(&["1..22", "...22", "....."]);
        assert!(outlines(&two).iter().all(Vec::is_empty) && two.count() == 2);
        assert_eq!(outline_pixels(&two).iter().filter(|&&on| on).count(), 5);
        assert!(outlines(&Labels::empty(3, 3)).is_empty());
    }
}
