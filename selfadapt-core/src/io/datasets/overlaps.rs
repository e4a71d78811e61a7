//! Masks that overlap become one label image, as Cellpose made its LIVECell training set of them.

use ndarray::Array2;

use super::runs::Runs;
use crate::labels::Labels;

/// A mask of which so much lies under others is dropped.
const COVERED: f64 = 0.75;

/// Paints masks into an image of `(height, width)`, and says how many were dropped.
///
/// `remove_overlaps` of `paper/2.0/datasets.py` in Cellpose's repository: from the smallest mask on, one whose pixels lie to
/// three quarters in other masks is dropped; a pixel that is then still in several goes to the mask with the nearest mean
/// position, whether it was in that one or not. Equally large masks are taken in their order.
pub fn paint(size: (usize, usize), masks: &[Runs]) -> (Labels, usize) {
    let inside = |mask: &Runs| -> Vec<(usize, usize)> {
        mask.pixels()
            .filter(|&(row, column)| row < size.0 && column < size.1)
            .collect()
    };
    let pixels: Vec<Vec<(usize, usize)>> = masks.iter().map(inside).collect();
    let mut count = Array2::<u32>::zeros(size);
    for &pixel in pixels.iter().flatten() {
        count[pixel] += 1;
    }
    let mut by_size: Vec<usize> = (0..pixels.len()).collect();
    by_size.sort_by_key(|&mask| pixels[mask].len());
    let mut kept: Vec<bool> = pixels.iter().map(|mask| !mask.is_empty()).collect();
    for mask in by_size {
        let of = &pixels[mask];
        let shared = of.iter().filter(|&&pixel| count[pixel] > 1).count();
        if kept[mask] && shared as f64 / of.len() as f64 >= COVERED {
            kept[mask] = false;
            of.iter().for_each(|&pixel| count[pixel] -= 1);
        }
    }
    let mut labels = Array2::<u32>::zeros(size);
    let mut centres = Vec::new();
    for (number, mask) in (0..pixels.len()).filter(|&mask| kept[mask]).enumerate() {
        let area = pixels[mask].len() as f64;
        let (mut y, mut x) = (0., 0.);
        for &pixel in &pixels[mask] {
            labels[pixel] = number as u32 + 1;
            y += pixel.0 as f64;
            x += pixel.1 as f64;
        }
        centres.push((y / area, x / area));
    }
    for (pixel, label) in labels.indexed_iter_mut() {
        if count[pixel] < 2 {
            continue;
        }
        let mut nearest = f64::INFINITY;
        for (number, (y, x)) in centres.iter().enumerate() {
            let distance = (pixel.0 as f64 - y).powi(2) + (pixel.1 as f64 - x).powi(2);
            if distance < nearest {
                (nearest, *label) = (distance, number as u32 + 1);
            }
        }
    }
    let labels = Labels::new(labels);
    let dropped = pixels.len() - labels.count();
    (labels, dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mask of rows and columns in an image of 10 x 10.
    fn square(rows: std::ops::Range<u32>, columns: std::ops::Range<u32>) -> Runs {
        let mut counts = vec![0_u32];
        let mut inside = false;
        for pixel in 0..100 {
            let within = columns.contains(&(pixel / 10)) && rows.contains(&(pixel % 10));
            if within != inside {
                counts.push(0);
                inside = within;
            }
            if let Some(last) = counts.last_mut() {
                *last += 1;
            }
        }
        Runs::from_counts((10, 10), &counts).unwrap()
    }

    #[test]
    fn shared_pixels_go_to_the_nearer_and_a_covered_mask_goes() {
        let masks = [
            square(0..4, 0..4),
            square(0..4, 3..8),
            square(1..3, 1..3), // inside of the first
        ];
        let (labels, dropped) = paint((10, 10), &masks);
        assert_eq!((labels.count(), dropped), (2, 1));
        // Column 3 is 1.5 from the first's mean column and 2 from the second's.
        assert_eq!(labels.areas(), [16, 16]);
        assert_eq!(labels.pixels()[[2, 3]], 1);
    }
}
