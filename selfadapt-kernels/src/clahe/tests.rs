//! The equalisation against scikit-image, and what it must hold for any image.

use proptest::prelude::*;

use super::{clahe, cpu::clip_histogram};

/// `clip_histogram(histogram, 163)` of scikit-image 0.26.0, which hands out a few pixels too many.
#[test]
fn clipped_histograms_are_those_of_scikit_image() {
    let mut histogram = [0; 256];
    histogram[3] = 16_000;
    histogram[4] = 384;
    clip_histogram(&mut histogram, 163);
    assert_eq!(histogram[..8], [63, 64, 63, 163, 163, 64, 63, 63]);
    assert_eq!(histogram.iter().sum::<usize>(), 16_392);
    let mut histogram = [0; 256];
    histogram[3] = 12_000;
    histogram[100..200].fill(43);
    histogram[200] = 84;
    clip_histogram(&mut histogram, 163);
    assert_eq!(histogram[..8], [47, 46, 46, 163, 46, 46, 47, 46]);
    assert_eq!(histogram.iter().filter(|&&count| count == 89).count(), 67);
    assert_eq!(histogram.iter().sum::<usize>(), 16_395);
}

#[test]
fn a_small_image_is_that_of_scikit_image() {
    // equalize_adapthist(numpy.float32((numpy.arange(12).reshape(3, 4) * 7 % 12) / 11), kernel_size=2), 0.26.0.
    let image: Vec<f32> = (0..12).map(|n| (n * 7 % 12) as f32 / 11.).collect();
    let found = clahe(&image, 3, 4, 2).unwrap();
    for (found, expected) in found.iter().zip(EXPECTED) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }
}

const EXPECTED: [f32; 12] = [
    0.,
    2. / 3.,
    1. / 6.,
    1.,
    1. / 3.,
    1.,
    0.5,
    0.,
    2. / 3.,
    0.,
    5. / 6.,
    1. / 3.,
];

#[test]
fn impossible_input_is_refused() {
    let say = |image: &[f32], side| clahe(image, 1, 2, side).unwrap_err().to_string();
    assert!(say(&[0., 1.5], 8).contains("0 to 1, found 1.5"));
    assert!(say(&[0., f32::NAN], 8).contains("found NaN"));
    assert!(say(&[0., 1.], 1).contains("found 1"));
    assert!(clahe(&[0.], 1, 2, 8).is_err());
    assert!(clahe(&[], 0, 2, 8).unwrap().is_empty());
    assert_eq!(clahe(&[0.; 4], 2, 2, 8).unwrap().len(), 4);
}

proptest! {
    #[test]
    fn results_span_zero_to_one(height in 1usize..20, width in 1usize..20, side in 2usize..12, seed in 0usize..1000) {
        let image: Vec<f32> = (0..height * width).map(|n| ((n * 37 + seed) * 7919 % 101) as f32 / 100.).collect();
        let found = clahe(&image, height, width, side).unwrap();
        prop_assert_eq!(found.len(), image.len());
        prop_assert!(found.iter().all(|v| (0. ..=1.).contains(v)));
    }
}
