//! Long curves thinned to what a chart can show, so that the page of a run of 25,000 steps stays small.

/// Most points of one line: about one for each pixel of a chart's width.
const MOST: usize = 400;

/// How many neighbours become one point in a line of `points`; 1 where all are kept.
pub fn together(points: usize) -> usize {
    points.div_ceil(MOST).max(1)
}

/// Means of as many neighbours as [`together`] says; what is not a number does not count.
pub fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points
        .chunks(together(points.len()))
        .map(|chunk| {
            let finite = || chunk.iter().filter(|point| point.1.is_finite());
            let count = finite().count() as f64;
            let sum = finite().fold((0., 0.), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (sum.0 / count, sum.1 / count)
        })
        .filter(|point| point.1.is_finite())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lines_stay_as_they_are() {
        let points: Vec<(f64, f64)> = (1..=400).map(|i| (f64::from(i), 0.5)).collect();
        assert_eq!(thin(&points), points);
    }

    #[test]
    fn long_ones_become_means_and_keep_their_level() {
        let points: Vec<(f64, f64)> = (1..=25_000)
            .map(|i| (f64::from(i), f64::from(i % 2)))
            .collect();
        let thinned = thin(&points);
        assert_eq!(together(points.len()), 63);
        assert!(thinned.len() <= MOST && thinned.len() > MOST / 2);
        assert_eq!(thinned[0].0, 32.);
        assert!(thinned.iter().all(|point| (point.1 - 0.5).abs() < 0.02));
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        let mut points: Vec<(f64, f64)> = (0..800).map(|i| (f64::from(i), 2.)).collect();
        points[0].1 = f64::NAN;
        (points[2].1, points[3].1) = (f64::NAN, f64::INFINITY);
        let thinned = thin(&points);
        assert_eq!(thinned.len(), 399);
        assert_eq!(thinned[0], (1., 2.));
        assert!(thin(&[]).is_empty());
    }
}
