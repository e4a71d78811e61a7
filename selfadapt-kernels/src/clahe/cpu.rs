//! The steps of the equalisation.

use rayon::prelude::*;

/// Gray values of the quantised image.
const GRAYS: usize = 1 << 14;
/// Bins of a histogram.
const BINS: usize = 256;
/// Gray values of a bin.
const BIN: usize = 1 + GRAYS / BINS;

/// `img_as_uint`, then `rescale_intensity` to 0 to 16383, rounded.
pub fn quantised(image: &[f32]) -> Vec<u16> {
    let wide: Vec<u16> = image
        .iter()
        .map(|value| (value * f32::from(u16::MAX)).round_ties_even() as u16)
        .collect();
    let (least, most) = range(&wide);
    let last = (GRAYS - 1) as u16;
    if least == most {
        return wide.iter().map(|&value| value.min(last)).collect();
    }
    let (low, span) = (f64::from(least), f64::from(most) - f64::from(least));
    let gray =
        |&value: &u16| ((f64::from(value) - low) / span * f64::from(last)).round_ties_even() as u16;
    wide.iter().map(gray).collect()
}

fn range(values: &[u16]) -> (u16, u16) {
    let least = values.iter().copied().min().unwrap_or(0);
    (least, values.iter().copied().max().unwrap_or(0))
}

/// `_clahe`: the image with each pixel's gray value mapped as its surroundings ask for.
pub fn equalised(
    gray: &[u16],
    (height, width): (usize, usize),
    side: usize,
    limit: f64,
) -> Vec<u16> {
    let (down, across) = (height.div_ceil(side), width.div_ceil(side));
    let area = side * side;
    let clip = ((limit * area as f64) as usize).max(1);
    let bin = |y: usize, x: usize| {
        usize::from(gray[mirrored(y, height) * width + mirrored(x, width)]) / BIN
    };
    // Regions begin at the image's first pixel; what they lack at its end is mirrored.
    let maps: Vec<Vec<u16>> = (0..down * across)
        .into_par_iter()
        .map(|region| {
            let (top, left) = (region / across * side, region % across * side);
            let mut histogram = [0usize; BINS];
            for y in top..top + side {
                for x in left..left + side {
                    histogram[bin(y, x)] += 1;
                }
            }
            clip_histogram(&mut histogram, clip);
            mapping(&histogram, area)
        })
        .collect();
    // A pixel lies between the middles of two regions along each axis; beyond the outer ones the nearest counts twice.
    let half = side / 2;
    let between = |at: usize, regions: usize| {
        let step = at + half;
        let (block, inside) = (step / side, step % side);
        let region = |n: usize| n.saturating_sub(1).min(regions - 1);
        (
            region(block),
            region(block + 1),
            inside as f64 / side as f64,
        )
    };
    let columns: Vec<_> = (0..width).map(|x| between(x, across)).collect();
    let rows = gray.par_chunks(width).enumerate();
    rows.flat_map_iter(|(y, row)| {
        let (above, below, low) = between(y, down);
        let (maps, columns) = (&maps, &columns);
        row.iter()
            .zip(columns)
            .map(move |(&gray, &(left, right, far))| {
                let bin = usize::from(gray) / BIN;
                let map = |row: usize, column: usize| f64::from(maps[row * across + column][bin]);
                let mut sum = 0f32;
                sum += (map(above, left) * ((1. - far) * (1. - low))) as f32;
                sum += (map(above, right) * (far * (1. - low))) as f32;
                sum += (map(below, left) * ((1. - far) * low)) as f32;
                sum += (map(below, right) * (far * low)) as f32;
                sum as u16
            })
    })
    .collect()
}

/// The pixel that mirroring at the ends, without repeating them, brings to `at`.
fn mirrored(at: usize, length: usize) -> usize {
    if at < length {
        return at;
    }
    if length == 1 {
        return 0;
    }
    let inside = at % (2 * (length - 1));
    inside.min(2 * (length - 1) - inside)
}

/// `clip_histogram`: what bins hold beyond `limit` is spread over the others.
pub fn clip_histogram(histogram: &mut [usize; BINS], limit: usize) {
    let mut excess = 0i64;
    for count in histogram.iter_mut().filter(|count| **count > limit) {
        excess += (*count - limit) as i64;
        *count = limit;
    }
    let share = excess as usize / BINS;
    // May be negative where a region is small.
    let upper = limit as i64 - share as i64;
    for count in histogram
        .iter_mut()
        .filter(|count| (**count as i64) < upper)
    {
        excess -= share as i64;
        *count += share;
    }
    // Those just raised may take part.
    let near = |count: &usize| *count as i64 >= upper && *count < limit;
    for count in histogram.iter_mut().filter(|count| near(count)) {
        excess -= (limit - *count) as i64;
        *count = limit;
    }
    while excess > 0 {
        let before = excess;
        for first in 0..BINS {
            let under = histogram.iter().filter(|count| **count < limit).count();
            let step = (under / excess as usize).max(1);
            let mut raised = 0;
            for count in histogram.iter_mut().skip(first).step_by(step) {
                if *count < limit {
                    *count += 1;
                    raised += 1;
                }
            }
            excess -= raised;
            if excess <= 0 {
                break;
            }
        }
        if excess == before {
            break;
        }
    }
}

/// `map_histogram`: the cumulated histogram of `pixels`, stretched to the gray values.
fn mapping(histogram: &[usize; BINS], pixels: usize) -> Vec<u16> {
    let last = (GRAYS - 1) as f64;
    let factor = last / pixels as f64;
    let mut sum = 0;
    let cumulated = histogram.iter().map(|count| {
        sum += count;
        (sum as f64 * factor).min(last) as u16
    });
    cumulated.collect()
}

/// `rescale_intensity` of the result, in f32.
pub fn stretched(gray: &[u16]) -> Vec<f32> {
    let (least, most) = range(gray);
    if least == most {
        return gray.iter().map(|&value| f32::from(value.min(1))).collect();
    }
    let (low, span) = (f32::from(least), f32::from(most - least));
    gray.iter()
        .map(|&value| (f32::from(value) - low) / span)
        .collect()
}
