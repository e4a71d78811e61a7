//! Overlap on the CPU: runs of equal pairs, sorted in parallel and added up.

use rayon::prelude::*;

use super::{Overlap, Shared};

/// Pixels that a thread takes at once.
const BLOCK: usize = 1 << 16;

pub(super) fn overlap(a: &[u32], b: &[u32]) -> Overlap {
    // A pair as one number, so that runs sort fast.
    let mut runs: Vec<(u64, usize)> = a
        .par_chunks(BLOCK)
        .zip(b.par_chunks(BLOCK))
        .flat_map_iter(|(a, b)| {
            let pair = |at: usize| u64::from(a[at]) << 32 | u64::from(b[at]);
            let mut runs: Vec<(u64, usize)> = Vec::new();
            for at in 0..a.len() {
                let pair = pair(at);
                match runs.last_mut() {
                    Some((last, pixels)) if *last == pair => *pixels += 1,
                    _ => runs.push((pair, 1)),
                }
            }
            runs
        })
        .collect();
    runs.par_sort_unstable();
    let by_pair = sums(runs);
    let label_a = |pair: u64| (pair >> 32) as u32;
    let label_b = |pair: u64| pair as u32;

    let of_a = by_pair.iter().map(|&(pair, n)| (label_a(pair), n));
    let areas_a = sums(of_a.filter(|&(label, _)| label != 0));
    let of_b = by_pair.iter().map(|&(pair, n)| (label_b(pair), n));
    let mut of_b: Vec<(u32, usize)> = of_b.filter(|&(label, _)| label != 0).collect();
    of_b.sort_unstable();
    let areas_b = sums(of_b);
    let shared = by_pair
        .iter()
        .filter(|&&(pair, _)| label_a(pair) != 0 && label_b(pair) != 0)
        .map(|&(pair, pixels)| Shared {
            label_a: label_a(pair),
            label_b: label_b(pair),
            pixels,
        })
        .collect();
    Overlap {
        areas_a,
        areas_b,
        shared,
    }
}

/// Adds up the numbers of equal keys, which follow each other.
fn sums<K: PartialEq>(counts: impl IntoIterator<Item = (K, usize)>) -> Vec<(K, usize)> {
    let mut sums: Vec<(K, usize)> = Vec::new();
    for (key, count) in counts {
        match sums.last_mut() {
            Some((last, sum)) if *last == key => *sum += count,
            _ => sums.push((key, count)),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use crate::overlap::overlap;

    #[test]
    fn pairs_are_counted_and_sorted() {
        let a = [1, 1, 1, 0, 9, 9, u32::MAX, 0];
        let b = [5, 5, 0, 5, 2, 5, 2, 0];
        let found = overlap(&a, &b).unwrap();
        assert_eq!(found.areas_a, [(1, 3), (9, 2), (u32::MAX, 1)]);
        assert_eq!(found.areas_b, [(2, 2), (5, 4)]);
        let shared: Vec<_> = found
            .shared
            .iter()
            .map(|s| (s.label_a, s.label_b, s.pixels))
            .collect();
        assert_eq!(shared, [(1, 5, 2), (9, 2, 1), (9, 5, 1), (u32::MAX, 2, 1)]);
        let iou: Vec<f64> = found.iou().collect();
        assert_eq!(iou, [2.0 / 5.0, 1.0 / 3.0, 1.0 / 5.0, 1.0 / 2.0]);
    }

    #[test]
    fn sizes_have_to_agree() {
        assert!(overlap(&[1], &[1, 2]).is_err());
        assert_eq!(overlap(&[], &[]).unwrap(), Default::default());
    }

    proptest! {
        #[test]
        fn agrees_with_counting_one_by_one(
            pixels in prop::collection::vec((0_u32..6, 0_u32..6), 0..400),
            repeat in 1_usize..900,
        ) {
            let repeated = pixels.iter().flat_map(|&pair| vec![pair; repeat]);
            let (a, b): (Vec<u32>, Vec<u32>) = repeated.unzip();
            let mut expected = BTreeMap::new();
            for pair in a.iter().zip(&b).filter(|(a, b)| **a != 0 && **b != 0) {
                *expected.entry(pair).or_insert(0) += 1;
            }
            let found = overlap(&a, &b).unwrap();
            let found_pairs: Vec<_> =
                found.shared.iter().map(|s| ((&s.label_a, &s.label_b), s.pixels)).collect();
            prop_assert_eq!(found_pairs, expected.into_iter().collect::<Vec<_>>());
            let foreground = a.iter().filter(|&&label| label != 0).count();
            prop_assert_eq!(found.areas_a.iter().map(|&(_, n)| n).sum::<usize>(), foreground);
            prop_assert!(overlap(&b, &b).unwrap().iou().all(|iou| iou == 1.0));
        }
    }
}
