//! Percentiles as NumPy computes them, and stretching intensities between two of them.

/// Where a percentile lies among sorted values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The value at or below it, counted from 0.
    pub below: usize,
    /// The share of the next one.
    pub share: f32,
}

impl Place {
    /// As NumPy has it, which divides the percent in the array's type, f32, and keeps positions in it.
    pub fn of(last: usize, percent: f64) -> Self {
        let position = last as f32 * (percent as f32 / 100.);
        let below = (position.floor() as usize).min(last);
        Self {
            below,
            share: position - below as f32,
        }
    }
}

/// Interpolates from the nearer side, as NumPy does.
pub(crate) fn between(low: f32, high: f32, share: f32) -> f32 {
    let step = high - low;
    if share >= 0.5 {
        high - step * (1. - share)
    } else {
        low + step * share
    }
}

/// The `percent`-th percentile of `values`, interpolated linearly, as `numpy.percentile` of a float32
/// array gives it (position and result in f32). Reorders `values`; NaN where there are none.
///
/// Values must not be NaN.
pub fn percentile(values: &mut [f32], percent: f64) -> f32 {
    let Some(last) = values.len().checked_sub(1) else {
        return f32::NAN;
    };
    let Place { below, share } = Place::of(last, percent);
    let (_, &mut low, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let high = above.iter().copied().min_by(f32::total_cmp).unwrap_or(low);
    between(low, high, share)
}

/// Maps `low` to 0 and `high` to 1 in every value, as two f32 steps (subtract, divide).
pub fn stretch(values: &mut [f32], low: f32, high: f32) {
    let range = high - low;
    for value in values {
        *value = (*value - low) / range;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // np.percentile(np.array([3, 1, 4, 1, 5, 9, 2, 6], "float32"), [0, 1, 30, 50, 99, 100])
        let expected = [1., 1., 2.1, 3.5, 8.79, 9.];
        for (percent, expected) in [0., 1., 30., 50., 99., 100.].into_iter().zip(expected) {
            let mut values = [3., 1., 4., 1., 5., 9., 2., 6.];
            let found = percentile(&mut values, percent);
            assert!((found - expected).abs() < 2e-6, "{percent}: {found}");
        }
        assert!(percentile(&mut [], 50.).is_nan());
        assert_eq!(percentile(&mut [7.], 99.), 7.);
    }

    proptest! {
        #[test]
        fn percentiles_rise_and_stay_within(mut values in prop::collection::vec(-1e3f32..1e3, 1..50), a in 0f64..100., b in 0f64..100.) {
            let (low, high) = (percentile(&mut values, a.min(b)), percentile(&mut values, a.max(b)));
            let (least, most) = (percentile(&mut values, 0.), percentile(&mut values, 100.));
            // Interpolation from the two sides of a half may disagree by a rounding.
            prop_assert!(low <= high + 1e-3 && least <= low + 1e-3 && high <= most + 1e-3);
        }
    }
}
