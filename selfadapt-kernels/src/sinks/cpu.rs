//! Sinks on the CPU: counting by row bands, seeds and their growth in parallel, painting in order.

use rayon::prelude::*;

use crate::fill_holes::number_by_first_pixel;

/// A pixel is a seed if more ends than this lie in it.
const SEED: u32 = 10;
/// A sink grows into pixels in which more ends than this lie.
const GROW: u32 = 2;
/// How often a sink grows by a pixel; its window has `2 * REACH + 1` pixels a side.
const REACH: usize = 5;
const WINDOW: usize = 2 * REACH + 1;
/// Seeds are highest within this distance, in pixels along each axis.
const RIVAL: usize = 2;

/// Counts of ends, with a border of empty pixels as wide as a window reaches. The original's border is 20
/// pixels wide; as no end lies in it, its width does not matter.
struct Histogram {
    counts: Vec<u32>,
    width: usize,
}

pub(super) fn gather(
    starts: &[u32],
    ends: &[[f32; 2]],
    height: usize,
    width: usize,
    max_size_fraction: f64,
) -> Vec<u32> {
    let mut labels = vec![0; height * width];
    if starts.is_empty() {
        return labels;
    }
    let columns = width + 2 * REACH;
    // A float cast to an integer truncates, and takes what is negative or not a number for 0.
    let cell = |[y, x]: [f32; 2]| {
        let (y, x) = (y as usize, x as usize);
        (y.min(height - 1) + REACH) * columns + x.min(width - 1) + REACH
    };
    let mut histogram = Histogram {
        counts: vec![0; (height + 2 * REACH) * columns],
        width: columns,
    };
    for &end in ends {
        histogram.counts[cell(end)] += 1;
    }

    let mut seeds = histogram.seeds(height);
    seeds.sort_by_key(|&seed| histogram.counts[seed]);
    let sinks: Vec<[u16; WINDOW]> = seeds.par_iter().map(|&seed| histogram.sink(seed)).collect();
    let mut owner = vec![0_u32; histogram.counts.len()];
    for (number, (seed, sink)) in (1..).zip(seeds.iter().zip(&sinks)) {
        for (dy, &row) in sink.iter().enumerate() {
            let left = seed - REACH - REACH * columns + dy * columns;
            for dx in (0..WINDOW).filter(|dx| row >> dx & 1 == 1) {
                owner[left + dx] = number;
            }
        }
    }

    let mut areas = vec![0_u32; seeds.len() + 1];
    for (&start, &end) in starts.iter().zip(ends) {
        let number = owner[cell(end)];
        labels[start as usize] = number;
        areas[number as usize] += 1;
    }
    let largest = (height * width) as f64 * max_size_fraction;
    number_by_first_pixel(&mut labels, seeds.len(), |number| {
        f64::from(areas[number as usize]) <= largest
    });
    labels
}

impl Histogram {
    /// Local maxima, row by row.
    fn seeds(&self, height: usize) -> Vec<usize> {
        let is_highest = |&at: &usize| {
            let rows = (0..=2 * RIVAL).map(|dy| at - RIVAL + dy * self.width - RIVAL * self.width);
            let mut rivals = rows.flat_map(|left| &self.counts[left..=left + 2 * RIVAL]);
            rivals.all(|&rival| rival <= self.counts[at])
        };
        (REACH..REACH + height)
            .into_par_iter()
            .flat_map_iter(|y| {
                let row = y * self.width + REACH..(y + 1) * self.width - REACH;
                row.filter(|&at| self.counts[at] > SEED).filter(is_highest)
            })
            .collect()
    }

    /// The window around a seed, a bit for each pixel that its sink grows to.
    fn sink(&self, seed: usize) -> [u16; WINDOW] {
        let corner = seed - REACH - REACH * self.width;
        let open: [u16; WINDOW] = std::array::from_fn(|dy| {
            let left = corner + dy * self.width;
            let row = &self.counts[left..left + WINDOW];
            let bits = row.iter().enumerate();
            bits.fold(0, |bits, (dx, &count)| bits | u16::from(count > GROW) << dx)
        });
        let mut sink = [0; WINDOW];
        sink[REACH] = 1 << REACH;
        for _ in 0..REACH {
            let wide = sink.map(|row| row | row << 1 | row >> 1);
            for (dy, row) in sink.iter_mut().enumerate() {
                let above = dy.checked_sub(1).map_or(0, |dy| wide[dy]);
                let below = wide.get(dy + 1).copied().unwrap_or(0);
                *row = (above | wide[dy] | below) & open[dy];
            }
        }
        sink
    }
}

#[cfg(test)]
mod tests {
    use crate::sinks::gather;

    /// An image of 20 x 20 pixels, whose pixels end, row by row, `count` at each of `places`.
    fn ends(places: &[(usize, f32, f32)]) -> (Vec<u32>, Vec<[f32; 2]>) {
        let ends: Vec<[f32; 2]> = places
            .iter()
            .flat_map(|&(count, y, x)| vec![[y, x]; count])
            .collect();
        ((0..ends.len() as u32).collect(), ends)
    }

    fn counts(labels: &[u32]) -> Vec<usize> {
        let largest = labels.iter().copied().max().unwrap_or(0);
        (0..=largest)
            .map(|label| labels.iter().filter(|&&other| other == label).count())
            .collect()
    }

    #[test]
    fn seeds_need_eleven_ends_and_sinks_three() {
        let (starts, ends) = ends(&[
            (10, 3.0, 3.0),
            (11, 15.9, 15.9),
            (3, 14.0, 16.0),
            (2, 16.0, 16.0),
        ]);
        let labels = gather(&starts, &ends, 20, 20, 0.4).unwrap();
        assert!(labels[..10].iter().all(|&label| label == 0));
        assert!(labels[10..24].iter().all(|&label| label == 1));
        assert!(labels[24..].iter().all(|&label| label == 0));
    }

    #[test]
    fn growth_stops_at_gaps_and_after_five_rounds() {
        // A chain to the right of the seed, reached up to 5 pixels; a gap at (10, 3) to its left.
        let mut places = vec![(12, 10.0, 5.0), (4, 10.0, 4.0), (4, 10.0, 2.0)];
        places.extend((6..13).map(|x| (4, 10.0, x as f32)));
        let (starts, ends) = ends(&places);
        let labels = gather(&starts, &ends, 20, 20, 0.4).unwrap();
        assert_eq!(counts(&labels)[1], 12 + 4 + 5 * 4);
    }

    #[test]
    fn the_higher_seed_wins_and_of_equals_the_later() {
        // Two seeds 6 pixels apart, and a bridge that both of them reach.
        let bridged = |left: usize, right: usize| {
            let mut places = vec![(left, 5.0, 5.0)];
            places.extend((6..11).map(|x| (3, 5.0, x as f32)));
            places.push((right, 5.0, 11.0));
            let (starts, ends) = ends(&places);
            counts(&gather(&starts, &ends, 20, 20, 0.4).unwrap())[1..].to_vec()
        };
        assert_eq!(bridged(20, 12), [20 + 15, 12]);
        assert_eq!(bridged(12, 20), [12, 15 + 20]);
        assert_eq!(bridged(12, 12), [12, 15 + 12]);
    }

    #[test]
    fn large_instances_are_dropped_and_the_rest_renumbered() {
        let (starts, ends) = ends(&[(161, 5.0, 5.0), (30, 15.0, 15.0)]);
        let labels = gather(&starts, &ends, 20, 20, 0.4).unwrap();
        assert_eq!(counts(&labels), [370, 30]);
        assert_eq!(
            counts(&gather(&starts, &ends, 20, 20, 0.41).unwrap()),
            [209, 161, 30]
        );
    }

    #[test]
    fn positions_off_the_image_and_empty_images() {
        let places = vec![[-3.0, f32::NAN]; 12];
        let starts: Vec<u32> = (0..12).collect();
        let labels = gather(&starts, &places, 3, 4, 1.0).unwrap();
        assert_eq!(labels, [1; 12]);
        assert_eq!(gather(&starts, &places, 3, 4, 0.4).unwrap(), [0; 12]);
        assert_eq!(gather(&[], &[], 1, 1, 0.4).unwrap(), [0]);
        assert!(gather(&[], &[], 0, 3, 0.4).unwrap().is_empty());
        assert!(gather(&[0], &[], 1, 1, 0.4).is_err());
        assert!(gather(&[1], &[[0.0; 2]], 1, 1, 0.4).is_err());
    }
}
