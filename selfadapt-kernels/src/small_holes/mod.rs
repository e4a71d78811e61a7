//! Fills the small holes of instances, as deepcell-toolbox's `fill_holes` does, and drops small instances.
//!
//! Only instances with a hole are touched (Euler number below 1, 8 neighbours, Gray 1971). Of those, every part of
//! the surroundings within the instance's box that is smaller than the limit is filled, corners of the box included.

use candle_core::Result;

use crate::objects::{Numbering, Object, expect_size, locate};

/// Sets labels of fewer than `min_size` pixels to 0, as `remove_small_objects`.
pub fn remove_small(labels: &mut [u32], min_size: usize) {
    let numbering = Numbering::new(labels);
    let mut areas = vec![0usize; numbering.labels().len()];
    for &label in labels.iter().filter(|label| **label != 0) {
        areas[numbering.place(label)] += 1;
    }
    for label in labels.iter_mut().filter(|label| **label != 0) {
        if areas[numbering.place(*label)] < min_size {
            *label = 0;
        }
    }
}

/// Gives holes of fewer than `size` pixels (4 neighbours) to the instance around them, by ascending label, and numbers the
/// instances `1..` in that order.
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn fill_small_holes(
    labels: &[u32],
    height: usize,
    width: usize,
    size: usize,
) -> Result<Vec<u32>> {
    expect_size(
        "fill_small_holes",
        "labels",
        labels.len(),
        [1, height, width],
    )?;
    let mut filled = labels.to_vec();
    for object in locate(labels, width, &Numbering::new(labels)) {
        if size > 0 && euler_number(labels, width, &object) < 1 {
            fill(&mut filled, width, &object, size);
        }
    }
    let numbering = Numbering::new(&filled);
    for label in filled.iter_mut().filter(|label| **label != 0) {
        *label = numbering.place(*label) as u32 + 1;
    }
    Ok(filled)
}

/// Pieces less holes of an instance, pixels that touch at corners being one piece.
fn euler_number(labels: &[u32], width: usize, object: &Object) -> i64 {
    let inside = |y: usize, x: usize| {
        // One pixel around the box is outside.
        let here = object.rows.contains(&(y.wrapping_sub(1)))
            && object.columns.contains(&(x.wrapping_sub(1)));
        here && labels[(y - 1) * width + x - 1] == object.label
    };
    let mut sum = 0;
    for y in object.rows.start..=object.rows.end {
        for x in object.columns.start..=object.columns.end {
            let quad = [
                inside(y, x),
                inside(y, x + 1),
                inside(y + 1, x),
                inside(y + 1, x + 1),
            ];
            sum += match (quad.iter().filter(|in_it| **in_it).count(), quad) {
                (1, _) => 1,
                (3, _) => -1,
                (2, [a, _, _, d]) if a == d => -2,
                _ => 0,
            };
        }
    }
    sum / 4
}

/// Fills whatever in the object's box is not of it and hangs together in fewer than `size` pixels.
fn fill(labels: &mut [u32], width: usize, object: &Object, size: usize) {
    let (rows, columns) = (&object.rows, &object.columns);
    let (tall, wide) = (rows.len(), columns.len());
    let at = |y: usize, x: usize| (rows.start + y) * width + columns.start + x;
    let mut seen: Vec<bool> = (0..tall * wide)
        .map(|n| labels[at(n / wide, n % wide)] == object.label)
        .collect();
    let mut open = Vec::new();
    for first in 0..seen.len() {
        if seen[first] {
            continue;
        }
        seen[first] = true;
        open.clear();
        open.push(first);
        let mut next = 0;
        while let Some(&n) = open.get(next) {
            next += 1;
            let (y, x) = (n / wide, n % wide);
            let neighbours = [
                (y > 0).then(|| n - wide),
                (x > 0).then(|| n - 1),
                (x + 1 < wide).then(|| n + 1),
                (y + 1 < tall).then(|| n + wide),
            ];
            for other in neighbours.into_iter().flatten() {
                if !seen[other] {
                    seen[other] = true;
                    open.push(other);
                }
            }
        }
        if open.len() < size {
            for &n in &open {
                labels[at(n / wide, n % wide)] = object.label;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(rows: &[&str]) -> (Vec<u32>, usize, usize) {
        let pixels = rows.concat().bytes().map(|b| u32::from(b - b'0')).collect();
        (pixels, rows.len(), rows[0].len())
    }

    fn filled(rows: &[&str], size: usize) -> Vec<u32> {
        let (labels, height, width) = image(rows);
        fill_small_holes(&labels, height, width, size).unwrap()
    }

    #[test]
    fn small_holes_are_filled_and_labels_closed_up() {
        let ring = ["033330", "330033", "330033", "333333", "000005"];
        // Two corners of the box are filled too, since there is a hole.
        let expected = ["111111", "111111", "111111", "111111", "000002"];
        assert_eq!(filled(&ring, 5), image(&expected).0);
        let expected = ["111111", "110011", "110011", "111111", "000002"];
        assert_eq!(filled(&ring, 4), image(&expected).0);
        let whole = ["0110", "1111", "0110"];
        assert_eq!(filled(&whole, 9), image(&whole).0);
    }

    #[test]
    fn an_instance_in_a_hole_is_swallowed() {
        let rows = ["77777", "70007", "70907", "70007", "77777"];
        assert_eq!(filled(&rows, 20), vec![1; 25]);
    }

    #[test]
    fn euler_numbers_count_pieces_and_holes() {
        for (rows, expected) in [
            (["101", "000", "101"], 4),
            (["110", "101", "011"], 0),
            (["111", "101", "111"], 0),
            (["100", "010", "001"], 1),
        ] {
            let (labels, _, width) = image(&rows);
            let object = &locate(&labels, width, &Numbering::new(&labels))[0];
            assert_eq!(euler_number(&labels, width, object), expected, "{rows:?}");
        }
    }

    #[test]
    fn small_instances_go() {
        let mut labels = [4, 4, 0, 9, 4];
        remove_small(&mut labels, 2);
        assert_eq!(labels, [4, 4, 0, 0, 4]);
        assert!(fill_small_holes(&[1; 3], 2, 2, 5).is_err());
    }
}
