//! Hole filling on the CPU: holes are found per instance in parallel and filled in order.

use rayon::prelude::*;

use super::number_by_first_pixel;
use crate::objects::{Numbering, Object, locate};

/// Drops what Cellpose drops as small (see the module), then renumbers by first pixels.
pub(super) fn remove_small(labels: &mut [u32], min_size: usize) {
    if min_size == 0 {
        return;
    }
    let numbering = Numbering::new(labels);
    let mut areas = vec![0_usize; numbering.labels().len()];
    let mut background = 0_usize;
    for &label in labels.iter() {
        match label {
            0 => background += 1,
            _ => areas[numbering.place(label)] += 1,
        }
    }
    // The original drops the first of all areas as the background's, whether or not there is any.
    let skip = usize::from(background == 0).min(areas.len());
    let small: Vec<bool> = areas[skip..].iter().map(|&area| area < min_size).collect();
    let is_small = |label: u32| small.get(label as usize - 1).copied().unwrap_or(false);
    for label in labels.iter_mut().filter(|label| **label != 0) {
        *label = match is_small(*label) {
            true => 0,
            false => numbering.place(*label) as u32 + 1,
        };
    }
    number_by_first_pixel(labels, areas.len(), |_| true);
}

/// Fills each instance's holes by ascending label, and closes the numbers up in that order.
pub(super) fn fill_holes(labels: &mut [u32], width: usize) {
    let numbering = Numbering::new(labels);
    let objects = locate(labels, width, &numbering);
    let found: Vec<Vec<usize>> = objects
        .par_iter()
        .map(|object| holes(labels, width, object))
        .collect();
    // A hole swallows what lies in it; the holes of an instance that lost pixels have to be found again.
    let mut is_changed = vec![false; objects.len()];
    for (place, (object, mut filled)) in objects.iter().zip(found).enumerate() {
        if is_changed[place] {
            filled = holes(labels, width, object);
        }
        for pixel in filled {
            let old = std::mem::replace(&mut labels[pixel], object.label);
            if old != 0 {
                is_changed[numbering.place(old)] = true;
            }
        }
    }
    for label in labels.iter_mut().filter(|label| **label != 0) {
        *label = numbering.place(*label) as u32 + 1;
    }
}

/// Pixels of the object's box that are not the object's and not joined to the box's edge.
fn holes(labels: &[u32], width: usize, object: &Object) -> Vec<usize> {
    let (rows, columns) = (object.rows.len(), object.columns.len());
    if rows < 3 || columns < 3 || object.pixels == rows * columns {
        return Vec::new();
    }
    // A frame of open pixels around the box joins all of its edge.
    let wide = columns + 2;
    let mut is_closed = vec![false; (rows + 2) * wide];
    let corner = object.rows.start * width + object.columns.start;
    for y in 0..rows {
        let row = &labels[corner + y * width..][..columns];
        let closed = &mut is_closed[(y + 1) * wide + 1..][..columns];
        for (closed, &label) in closed.iter_mut().zip(row) {
            *closed = label == object.label;
        }
    }
    let mut todo = vec![0];
    is_closed[0] = true;
    while let Some(at) = todo.pop() {
        let (y, x) = (at / wide, at % wide);
        let neighbours = [
            (y > 0).then(|| at - wide),
            (y < rows + 1).then(|| at + wide),
            (x > 0).then(|| at - 1),
            (x < columns + 1).then(|| at + 1),
        ];
        for neighbour in neighbours.into_iter().flatten() {
            if !is_closed[neighbour] {
                is_closed[neighbour] = true;
                todo.push(neighbour);
            }
        }
    }
    let inner = (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x)));
    inner
        .filter(|(y, x)| !is_closed[(y + 1) * wide + x + 1])
        .map(|(y, x)| corner + y * width + x)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::fill_holes::{fill_holes_and_remove_small, remove_edge_masks};

    fn image(rows: &[&str]) -> (Vec<u32>, usize, usize) {
        let digits = rows.iter().flat_map(|row| row.bytes());
        let labels = digits.map(|digit| u32::from(digit - b'0')).collect();
        (labels, rows.len(), rows[0].len())
    }

    fn filled(rows: &[&str], min_size: usize) -> Vec<u32> {
        let (labels, height, width) = image(rows);
        fill_holes_and_remove_small(&labels, height, width, min_size).unwrap()
    }

    #[test]
    fn holes_are_closed_to_four_neighbours_only() {
        // The left hole is shut, though open across corners; the right one opens to the box's edge.
        let before = ["01110333", "10101303", "01110300", "00000303"];
        let after = ["01110222", "11111202", "01110200", "00000202"];
        assert_eq!(filled(&before, 0), image(&after).0);
    }

    #[test]
    fn a_hole_swallows_what_lies_in_it() {
        let ring_first = ["11111", "10001", "10201", "10001", "11111"];
        assert_eq!(filled(&ring_first, 0), [1; 25]);
        // Filled after what it swallows, the ring takes it all the same; numbers close up by rank.
        let ring_last = ["22222", "20002", "20102", "20002", "22222"];
        assert_eq!(filled(&ring_last, 0), [2; 25]);
        assert_eq!(filled(&ring_last, 1), [1; 25]);
    }

    #[test]
    fn what_lost_pixels_is_filled_anew() {
        // Label 2 closes a hole only through its part inside label 1, which label 1 swallows first.
        let before = ["1111100", "1000122", "1022122", "1000100", "1111100"];
        let after = ["1111100", "1111122", "1111122", "1111100", "1111100"];
        assert_eq!(filled(&before, 0), image(&after).0);
    }

    #[test]
    fn small_ones_go_and_the_rest_is_numbered_by_first_pixel() {
        let before = ["3330", "0001", "2220", "2220"];
        assert_eq!(
            filled(&before, 2),
            image(&["1110", "0000", "2220", "2220"]).0
        );
        assert_eq!(filled(&before, 7), [0; 16]);
    }

    #[test]
    fn gaps_mislead_as_they_do_in_cellpose() {
        // Areas in label order are 1, 3, 3: the first is small, so label 1 should go, but is not there;
        // once the labels are closed up, the small one is found.
        assert_eq!(filled(&["2033", "3444"], 2), [0, 0, 1, 1, 1, 2, 2, 2]);
        // Areas are 3, 1, 3: the second is small, so label 2 goes, though it is label 3 that is small.
        let found = filled(&["22230", "44400"], 2);
        assert_eq!(found, [0, 0, 0, 0, 0, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn touching_the_border_drops() {
        let (labels, height, width) = image(&["00000", "05070", "09070", "09007"]);
        let kept = remove_edge_masks(&labels, height, width).unwrap();
        assert_eq!(kept, image(&["00000", "01000", "00000", "00000"]).0);
        assert!(remove_edge_masks(&labels, 4, 4).is_err());
        assert!(remove_edge_masks(&[], 0, 4).unwrap().is_empty());
        assert_eq!(
            fill_holes_and_remove_small(&[3, 0], 1, 2, 15).unwrap(),
            [0, 0]
        );
        // Without background, the original takes the first instance's area for it, and keeps the instance.
        assert_eq!(fill_holes_and_remove_small(&[3], 1, 1, 15).unwrap(), [1]);
        assert!(
            fill_holes_and_remove_small(&[], 3, 0, 15)
                .unwrap()
                .is_empty()
        );
    }

    proptest! {
        #[test]
        fn numbers_have_no_gaps_and_foreground_only_grows(
            labels in prop::collection::vec(0_u32..5, 63), min_size in 0_usize..4
        ) {
            let found = fill_holes_and_remove_small(&labels, 7, 9, min_size).unwrap();
            if min_size > 0 {
                let mut numbers: Vec<u32> = found.iter().copied().filter(|&l| l != 0).collect();
                numbers.sort_unstable();
                numbers.dedup();
                prop_assert!(numbers.iter().zip(1..).all(|(a, b)| *a == b));
            } else {
                prop_assert!(labels.iter().zip(&found).all(|(a, b)| *a == 0 || *b != 0));
            }
        }
    }
}
