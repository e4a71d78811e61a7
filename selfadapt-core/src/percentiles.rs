//! Percentiles of values that do not fit into memory: gone through twice, and exactly those of all values at once.
//!
//! Numbers are counted by the upper half of their bits, which sort as the numbers do, and in the second pass those with
//! the upper half of a wanted number by their lower half. Memory is half a megabyte for each of the two passes.

use std::collections::BTreeMap;

use crate::normalise::{Place, between};

/// How many numbers 16 bits tell apart.
const HALF: usize = 1 << 16;

/// The first time that the values are gone through.
#[derive(Clone, Debug)]
pub struct FirstPass {
    counts: Vec<u64>,
}

/// The second time.
#[derive(Clone, Debug)]
pub struct SecondPass {
    /// For each percentile: where it lies, and between which two of the sorted values.
    wanted: Vec<(Place, [Rank; 2])>,
    counts: BTreeMap<usize, Vec<u64>>,
}

/// One of the sorted values.
#[derive(Clone, Copy, Debug)]
struct Rank {
    /// The upper half of its bits.
    upper: usize,
    /// How many values with the same upper half come before it.
    before: u64,
}

/// Bits that sort as numbers do (`f32::total_cmp`).
fn sortable(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

fn number(sortable: u32) -> f32 {
    f32::from_bits(if sortable >> 31 == 1 {
        sortable & !(1 << 31)
    } else {
        !sortable
    })
}

fn halves(value: f32) -> (usize, usize) {
    let bits = sortable(value) as usize;
    (bits >> 16, bits & (HALF - 1))
}

/// The first bin whose counts together with all before exceed `rank`, and the counts before it.
fn bin(counts: &[u64], rank: u64) -> (usize, u64) {
    let mut before = 0;
    for (bin, &count) in counts.iter().enumerate() {
        if before + count > rank {
            return (bin, before);
        }
        before += count;
    }
    (0, 0)
}

impl Default for FirstPass {
    fn default() -> Self {
        Self {
            counts: vec![0; HALF],
        }
    }
}

impl FirstPass {
    /// Counts values, which must not be NaN.
    pub fn add(&mut self, values: impl IntoIterator<Item = f32>) {
        for value in values {
            self.counts[halves(value).0] += 1;
        }
    }

    /// All values were counted, and these percentiles are wanted.
    pub fn then(self, percents: &[f64]) -> SecondPass {
        let total: u64 = self.counts.iter().sum();
        let last = total.saturating_sub(1);
        let rank = |rank: u64| {
            let (upper, before) = bin(&self.counts, rank);
            Rank {
                upper,
                before: rank - before.min(rank),
            }
        };
        let wanted: Vec<(Place, [Rank; 2])> = percents
            .iter()
            .map(|&percent| {
                let place = Place::of(last as usize, percent);
                let below = place.below as u64;
                (place, [rank(below), rank((below + 1).min(last))])
            })
            .collect();
        let uppers = wanted.iter().flat_map(|(_, ranks)| ranks.map(|r| r.upper));
        let counts = uppers.map(|upper| (upper, vec![0; HALF])).collect();
        SecondPass { wanted, counts }
    }
}

impl SecondPass {
    /// Counts the same values again.
    pub fn add(&mut self, values: impl IntoIterator<Item = f32>) {
        for value in values {
            let (upper, lower) = halves(value);
            if let Some(counts) = self.counts.get_mut(&upper) {
                counts[lower] += 1;
            }
        }
    }

    /// The percentiles: what [`percentile`](crate::normalise::percentile) gives of all values. NaN where there were none.
    pub fn percentiles(&self) -> Vec<f32> {
        let value = |rank: &Rank| {
            let counts = self.counts.get(&rank.upper)?;
            let (lower, _) = bin(counts, rank.before);
            (counts[lower] > 0).then(|| number((rank.upper << 16 | lower) as u32))
        };
        let percentile = |(place, [low, high]): &(Place, [Rank; 2])| {
            Some(between(value(low)?, value(high)?, place.share))
        };
        self.wanted
            .iter()
            .map(|wanted| percentile(wanted).unwrap_or(f32::NAN))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::normalise::percentile;
    use proptest::prelude::*;

    fn in_two_passes(values: &[f32], percents: &[f64]) -> Vec<f32> {
        let mut first = FirstPass::default();
        values.chunks(7).for_each(|part| first.add(part.to_vec()));
        let mut second = first.then(percents);
        second.add(values.to_vec());
        second.percentiles()
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert!(in_two_passes(&[], &[50.])[0].is_nan());
        assert_eq!(in_two_passes(&[7.], &[0., 99.]), [7., 7.]);
    }

    proptest! {
        #[test]
        fn they_are_those_of_all_values_at_once(
            mut values in prop::collection::vec(prop_oneof![
                any::<f32>().prop_filter("finite", |v| v.is_finite()),
                (-5i32..70_000).prop_map(|v| v as f32),
                0f32..1.,
            ], 1..400),
            percents in prop::collection::vec(0f64..=100., 1..5),
        ) {
            let found = in_two_passes(&values, &percents);
            for (found, &percent) in found.iter().zip(&percents) {
                prop_assert_eq!(found.to_bits(), percentile(&mut values, percent).to_bits());
            }
        }
    }
}
