//! Selection among many numbers: a parallel histogram, then a small exact search.

use candle_core::{Result, bail};
use rayon::prelude::*;

/// Leading bits of a key that the histogram tells apart: sign, exponent and three bits of the fraction.
const BITS: u32 = 12;
/// Values of one task.
const CHUNK: usize = 1 << 16;

/// Values, and which of them count (above 0) if not all do.
pub(super) type Part<'a> = (&'a [f32], Option<&'a [f32]>);

/// Maps floats to integers of the same order.
fn key(value: f32) -> u32 {
    // Negative zero counts as zero, as in comparisons.
    let bits = (value + 0.0).to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | 1 << 31
    }
}

fn value(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 {
        key & !(1 << 31)
    } else {
        !key
    })
}

/// How many kept values fall in each bin, and how many are NaN.
struct Histogram {
    bins: Vec<usize>,
    nan: usize,
}

/// The `q`-quantile of the kept values of all parts, `None` if there are none.
pub(super) fn select(parts: &[Part], q: f64) -> Result<Option<f32>> {
    let chunks: Vec<Part> = parts
        .iter()
        .flat_map(|&(values, mask)| {
            (0..values.len()).step_by(CHUNK).map(move |start| {
                let range = start..values.len().min(start + CHUNK);
                (&values[range.clone()], mask.map(|m| &m[range]))
            })
        })
        .collect();
    let empty = || Histogram {
        bins: vec![0; 1 << BITS],
        nan: 0,
    };
    let histogram = chunks
        .par_iter()
        .fold(empty, count)
        .reduce(empty, |mut a, b| {
            a.bins.iter_mut().zip(&b.bins).for_each(|(a, b)| *a += b);
            a.nan += b.nan;
            a
        });
    if histogram.nan > 0 {
        bail!("quantile: expected numbers, got {} NaN", histogram.nan)
    }
    let total: usize = histogram.bins.iter().sum();
    if total == 0 {
        return Ok(None);
    }
    let ranks = Ranks::new(q, total);
    let (rank, next) = (ranks.rank, ranks.next);
    let (first, before) = bin_of(&histogram.bins, rank);
    let (last, _) = bin_of(&histogram.bins, next);
    let mut candidates: Vec<u32> = chunks
        .par_iter()
        .flat_map_iter(|&part| {
            kept(part)
                .map(key)
                .filter(|k| (first..=last).contains(&bin(*k)))
        })
        .collect();
    let (_, low, above) = candidates.select_nth_unstable(rank - before);
    let low = *low;
    let high = if next == rank {
        low
    } else {
        above.iter().copied().min().unwrap_or(low)
    };
    Ok(Some(ranks.between(low, high)))
}

/// The two ranks, among sorted values, that a quantile lies between.
#[derive(Clone, Copy)]
pub(super) struct Ranks {
    pub rank: usize,
    /// The one above, or `rank` itself where the quantile is that value.
    pub next: usize,
    weight: f64,
}

impl Ranks {
    /// Those of the `q`-quantile of `total` values, at least one.
    pub fn new(q: f64, total: usize) -> Self {
        let position = q * (total - 1) as f64;
        let rank = position as usize;
        let weight = position - rank as f64;
        Self {
            rank,
            next: if weight > 0.0 { rank + 1 } else { rank },
            weight,
        }
    }

    /// The quantile, from the keys of the values of the two ranks.
    pub fn between(self, low: u32, high: u32) -> f32 {
        let (low, high) = (f64::from(value(low)), f64::from(value(high)));
        // Equal neighbours may be infinite.
        if low == high {
            low as f32
        } else {
            (low + self.weight * (high - low)) as f32
        }
    }
}

fn bin(key: u32) -> usize {
    (key >> (32 - BITS)) as usize
}

/// The bin that holds the value of this rank, and how many values lie in the bins below.
fn bin_of(bins: &[usize], rank: usize) -> (usize, usize) {
    let mut before = 0;
    for (bin, &count) in bins.iter().enumerate() {
        if rank < before + count {
            return (bin, before);
        }
        before += count;
    }
    (bins.len() - 1, before)
}

/// The values that count.
fn kept<'a>((values, mask): Part<'a>) -> impl Iterator<Item = f32> + 'a {
    values
        .iter()
        .enumerate()
        .filter(move |(i, _)| mask.is_none_or(|mask| mask[*i] > 0.0))
        .map(|(_, &value)| value)
}

fn count(mut histogram: Histogram, &part: &Part) -> Histogram {
    for value in kept(part) {
        if value.is_nan() {
            histogram.nan += 1;
        } else {
            histogram.bins[bin(key(value))] += 1;
        }
    }
    histogram
}
