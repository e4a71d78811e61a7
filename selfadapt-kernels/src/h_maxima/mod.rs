//! Peaks that stand out by a height, as scikit-image's `morphology.h_maxima` finds them, and their numbering.
//!
//! `peak[p] = f[p] - r[p] >= h`, where r is the reconstruction by dilation of `f - h` under f (Soille 2003, chapter 6):
//! the largest image below f that rises from `f - h` along chains of neighbours.

mod cpu;

use candle_core::{Result, bail};

use crate::objects::expect_size;

/// Marks the peaks of `image` `[height, width]` that stand out by `h`; pixels are neighbours within a disk of `radius`
/// pixels. Nothing is marked where the whole image spans less than `h`.
///
/// # Errors
/// If `image` does not hold `height * width` numbers or holds NaN, `h` is not positive, or `radius` not in 1 to 64.
pub fn h_maxima(
    image: &[f32],
    height: usize,
    width: usize,
    h: f64,
    radius: usize,
) -> Result<Vec<bool>> {
    expect_size("h_maxima", "image", image.len(), [1, height, width])?;
    if !(h > 0. && h.is_finite()) {
        bail!("h_maxima: expected a positive height, found {h}");
    }
    if !(1..=64).contains(&radius) {
        bail!("h_maxima: expected a radius of 1 to 64 pixels, found {radius}");
    }
    if let Some(value) = image.iter().find(|value| !value.is_finite()) {
        bail!("h_maxima: expected finite numbers, found {value}");
    }
    let least = image.iter().copied().fold(f32::INFINITY, f32::min);
    let most = image.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if image.is_empty() || h as f32 > most - least {
        return Ok(vec![false; image.len()]);
    }
    // scikit-image lowers a little more than h, so that rounding hides no peak.
    const RESOLUTION: f32 = 2. * 1e-6;
    let lowered: Vec<f32> = image
        .iter()
        .map(|&value| value - h as f32 - RESOLUTION * value.abs())
        .collect();
    let rebuilt = cpu::reconstruction(lowered, image, width, radius);
    let stands_out = |(&value, &rest): (&f32, &f32)| f64::from(value) - f64::from(rest) >= h;
    Ok(image.iter().zip(&rebuilt).map(stands_out).collect())
}

/// Numbers connected marks (8 neighbours) `1..` in the order of their first pixels, as `measure.label` does.
///
/// # Errors
/// If `marks` does not hold `height * width` of them.
pub fn components(marks: &[bool], height: usize, width: usize) -> Result<Vec<u32>> {
    expect_size("components", "marks", marks.len(), [1, height, width])?;
    Ok(cpu::components(marks, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_peaks_that_stand_out_count() {
        // A peak of 1, one of 0.5 that stands out by 0.3, and a plateau of 0.9 by 0.05.
        let row = [
            0., 0., 1., 0.2, 0.2, 0.2, 0.5, 0.2, 0.2, 0.2, 0.85, 0.9, 0.9, 0.85, 0.85, 0.85, 0.89,
        ];
        let peaks = |h| {
            let found = h_maxima(&row, 1, row.len(), h, 2).unwrap();
            let at = found.iter().enumerate().filter(|(_, peak)| **peak);
            at.map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(peaks(0.03), [2, 6, 11, 12, 16]);
        assert_eq!(peaks(0.1), [2, 6, 11, 12]);
        assert_eq!(peaks(0.4), [2, 11, 12]);
        assert_eq!(peaks(1.1), [] as [usize; 0]);
    }

    #[test]
    fn marks_are_numbered_by_their_first_pixels() {
        let marks = [
            [true, false, false, true, false],
            [false, true, false, true, false],
            [false, false, true, false, true],
        ];
        let labels = components(&marks.concat(), 3, 5).unwrap();
        assert_eq!(labels, [1, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1]);
        let labels = components(&[true, false, true], 1, 3).unwrap();
        assert_eq!(labels, [1, 0, 2]);
    }

    #[test]
    fn impossible_input_is_refused() {
        assert!(h_maxima(&[0.; 5], 2, 3, 0.1, 2).is_err());
        assert!(h_maxima(&[f32::NAN], 1, 1, 0.1, 2).is_err());
        assert!(h_maxima(&[0.], 1, 1, 0., 2).is_err());
        assert!(h_maxima(&[0.], 1, 1, 0.1, 0).is_err());
        assert!(h_maxima(&[], 0, 7, 0.1, 2).unwrap().is_empty());
        assert_eq!(h_maxima(&[0.; 4], 2, 2, 0.1, 2).unwrap(), [false; 4]);
    }

    proptest! {
        /// Against the definition: lift until nothing moves.
        #[test]
        fn reconstruction_is_the_fixed_point(width in 1usize..9, values in prop::collection::vec(0u8..12, 1..70), radius in 1usize..4) {
            let height = values.len() / width;
            let mask: Vec<f32> = values[..height * width].iter().map(|&v| f32::from(v)).collect();
            let seed: Vec<f32> = mask.iter().map(|v| v - 3.).collect();
            let found = cpu::reconstruction(seed.clone(), &mask, width, radius);
            let mut expected = seed;
            loop {
                let before = expected.clone();
                for at in 0..expected.len() {
                    let (y, x) = (at / width, at % width);
                    for (other, &level) in before.iter().enumerate() {
                        let (dy, dx) = ((other / width).abs_diff(y), (other % width).abs_diff(x));
                        if dy * dy + dx * dx <= radius * radius {
                            expected[at] = expected[at].max(level.min(mask[at]));
                        }
                    }
                }
                if before == expected {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }
}
