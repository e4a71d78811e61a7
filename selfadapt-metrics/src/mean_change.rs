//! How much a number that each image has changes on average: shared by criteria.

/// The mean over images after, less that before; NaN where there are no images.
pub(crate) fn mean_change(before: &[f64], after: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    mean(after) - mean(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_change_of_the_mean_over_images() {
        assert_eq!(mean_change(&[0.5, 0.75], &[0.75, 1.0]), 0.25);
        assert_eq!(mean_change(&[0.5], &[0.25, 0.25]), -0.25);
        assert!(mean_change(&[], &[1.]).is_nan());
    }
}
