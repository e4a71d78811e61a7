//! Flooding from markers, as scikit-image's `segmentation.watershed` does it.
//!
//! Pixels are taken by ascending value, then by the time at which they were reached; each gives its label to those of its
//! four neighbours that have none (Soille and Vincent 1990, Beucher; the heap is that of CellProfiler). Without watershed
//! lines, compactness or other neighbourhoods.

mod heap;

use candle_core::{Result, bail};

use crate::objects::expect_size;
use heap::{Entry, Heap};

/// Floods `image` `[height, width]` from `markers` (0: none) within `mask`; what no marker reaches is 0.
///
/// # Errors
/// If a slice does not hold `height * width` elements, or `image` holds NaN.
pub fn watershed(
    image: &[f32],
    markers: &[u32],
    mask: &[bool],
    height: usize,
    width: usize,
) -> Result<Vec<u32>> {
    expect_size("watershed", "image", image.len(), [1, height, width])?;
    expect_size("watershed", "markers", markers.len(), [1, height, width])?;
    expect_size("watershed", "mask", mask.len(), [1, height, width])?;
    if image.iter().any(|value| value.is_nan()) {
        bail!("watershed: expected numbers, found NaN");
    }
    let mut labels: Vec<u32> = markers
        .iter()
        .zip(mask)
        .map(|(&marker, &inside)| if inside { marker } else { 0 })
        .collect();
    let mut heap = Heap::default();
    for (at, _) in labels.iter().enumerate().filter(|(_, label)| **label != 0) {
        heap.push(Entry {
            value: image[at],
            age: 0,
            at,
        });
    }
    let mut age = 0;
    while let Some(Entry { at, .. }) = heap.pop() {
        let (y, x) = (at / width, at % width);
        // Up, left, right, down.
        let neighbours = [
            (y > 0).then(|| at - width),
            (x > 0).then(|| at - 1),
            (x + 1 < width).then(|| at + 1),
            (y + 1 < height).then(|| at + width),
        ];
        for other in neighbours.into_iter().flatten() {
            if mask[other] && labels[other] == 0 {
                age += 1;
                labels[other] = labels[at];
                heap.push(Entry {
                    value: image[other],
                    age,
                    at: other,
                });
            }
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_basins_meet_at_the_ridge() {
        let image = [0., 1., 2., 3., 1., 0.5, 0.];
        let markers = [1, 0, 0, 0, 0, 0, 2];
        let labels = watershed(&image, &markers, &[true; 7], 1, 7).unwrap();
        assert_eq!(labels, [1, 1, 1, 2, 2, 2, 2]);
        let mask = [true, true, false, true, true, true, true];
        let labels = watershed(&image, &markers, &mask, 1, 7).unwrap();
        assert_eq!(labels, [1, 1, 0, 2, 2, 2, 2]);
    }

    #[test]
    fn a_plateau_is_shared_by_distance() {
        let labels = watershed(&[0.; 5], &[3, 0, 0, 0, 7], &[true; 5], 1, 5).unwrap();
        assert_eq!(labels, [3, 3, 3, 7, 7]);
        assert!(watershed(&[0.; 5], &[0; 4], &[true; 5], 1, 5).is_err());
        assert!(watershed(&[f32::NAN], &[0], &[true], 1, 1).is_err());
        assert!(watershed(&[], &[], &[], 0, 3).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn every_pixel_that_a_marker_reaches_has_a_label(width in 1usize..12, values in prop::collection::vec((0u8..5, 0u8..9, any::<bool>()), 1..120)) {
            let height = values.len() / width;
            let values = &values[..height * width];
            let image: Vec<f32> = values.iter().map(|v| f32::from(v.0)).collect();
            let markers: Vec<u32> = values.iter().map(|v| if v.1 == 0 { 1 + u32::from(v.0) } else { 0 }).collect();
            let mask: Vec<bool> = values.iter().map(|v| v.2).collect();
            let labels = watershed(&image, &markers, &mask, height, width).unwrap();
            for at in 0..labels.len() {
                prop_assert!(mask[at] || labels[at] == 0);
                prop_assert!(!mask[at] || markers[at] == 0 || labels[at] == markers[at]);
                // A labelled pixel's neighbours are labelled.
                let right = at + 1;
                if mask[at] && right % width != 0 && mask[right] {
                    prop_assert_eq!(labels[at] == 0, labels[right] == 0);
                }
            }
        }
    }
}
