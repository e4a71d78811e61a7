//! The median of numbers.

/// The median: of an even count the mean of the two in the middle; none of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_in_the_middle() {
        assert_eq!(median(vec![3., 1., 2.]), Some(2.));
        assert_eq!(median(vec![4., 1., 2., 9.]), Some(3.));
        assert_eq!(median(Vec::new()), None);
    }
}
