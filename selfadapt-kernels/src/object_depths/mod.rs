//! How deep each pixel lies in its object, from 0 outside to 1 where it is deepest: what StarDist learns as object
//! probability.
//!
//! With `d(p)` the Euclidean distance from pixel p of object O to the nearest pixel that is not of O,
//! `depth(p) = d(p) / (1e-10 + max over O of d)`. Beyond the image there is no pixel, so its edge does not count; only
//! where the whole image is one object, background is thought around it. `edt_prob` of stardist 0.9.1.

use candle_core::Result;
use rayon::prelude::*;

use crate::objects::{Numbering, expect_size};

/// No pixel of another label.
const NONE: u64 = u64::MAX;

/// Depths `[height, width]` in `[0, 1]` of the instance image `labels` `[height, width]`.
///
/// Labels may have gaps and any size. Parts of an object that do not touch have one deepest pixel together.
///
/// # Errors
/// If `labels` does not hold `height * width` numbers.
pub fn object_depths(labels: &[u32], height: usize, width: usize) -> Result<Vec<f32>> {
    expect_size("object_depths", "labels", labels.len(), [1, height, width])?;
    let Some(&first) = labels.first() else {
        return Ok(Vec::new());
    };
    let whole = first != 0 && labels.iter().all(|&label| label == first);
    let mut along = vec![NONE; labels.len()];
    along
        .par_chunks_mut(width)
        .zip(labels.par_chunks(width))
        .for_each(|(distances, row)| along_row(row, whole, distances));
    let image = Image {
        labels,
        along,
        width,
        whole,
    };
    let squares: Vec<u64> = (0..labels.len())
        .into_par_iter()
        .map(|pixel| match labels[pixel] {
            0 => 0,
            _ => image.square(pixel),
        })
        .collect();
    let numbering = Numbering::new(labels);
    let mut deepest = vec![0; numbering.labels().len()];
    let objects = || labels.iter().enumerate().filter(|(_, label)| **label != 0);
    for (pixel, &label) in objects() {
        let deepest = &mut deepest[numbering.place(label)];
        *deepest = squares[pixel].max(*deepest);
    }
    let mut depths = vec![0.; labels.len()];
    for (pixel, &label) in objects() {
        let most = (deepest[numbering.place(label)] as f64).sqrt();
        depths[pixel] = ((squares[pixel] as f64).sqrt() / (most + 1e-10)) as f32;
    }
    Ok(depths)
}

/// Pixels along the row to the nearest one of another label, or beyond the row's ends where the object is the image.
fn along_row(row: &[u32], whole: bool, distances: &mut [u64]) {
    let mut sweep = |places: &mut dyn Iterator<Item = usize>| {
        let (mut label, mut distance) = (0, NONE);
        for (n, place) in places.enumerate() {
            let other = if n == 0 { whole } else { row[place] != label };
            distance = match (other, distance) {
                (true, _) => 1,
                (false, NONE) => NONE,
                (false, distance) => distance + 1,
            };
            label = row[place];
            distances[place] = distances[place].min(distance);
        }
    };
    sweep(&mut (0..row.len()));
    sweep(&mut (0..row.len()).rev());
}

struct Image<'a> {
    labels: &'a [u32],
    /// What [`along_row`] found.
    along: Vec<u64>,
    width: usize,
    /// Whether there is one object and nothing else.
    whole: bool,
}

impl Image<'_> {
    /// The square of a pixel's distance to the nearest one of another label.
    fn square(&self, pixel: usize) -> u64 {
        let square = |distance: u64| distance.checked_mul(distance).unwrap_or(NONE);
        let (label, pixels) = (self.labels[pixel], self.labels.len());
        let mut best = square(self.along[pixel]);
        for up in [true, false] {
            let (mut place, mut rows) = (pixel, 1);
            // No row further away than what is found holds anything nearer.
            while rows * rows < best {
                let next = if up {
                    place.checked_sub(self.width)
                } else {
                    Some(place + self.width).filter(|&next| next < pixels)
                };
                let Some(next) = next else {
                    if self.whole {
                        best = rows * rows;
                    }
                    break;
                };
                place = next;
                if self.labels[place] != label {
                    best = rows * rows;
                    break;
                }
                best = best.min(square(self.along[place]).saturating_add(rows * rows));
                rows += 1;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradcheck::noise;

    /// The definition, pixel by pixel, with a border of background where the image is one object.
    fn plain(labels: &[u32], height: usize, width: usize) -> Vec<f32> {
        let whole = labels.iter().all(|&label| label == labels[0]);
        let border = i64::from(whole);
        let (tall, wide) = (height as i64, width as i64);
        let at = |y: i64, x: i64| {
            let inside = (0..tall).contains(&y) && (0..wide).contains(&x);
            if inside {
                labels[(y * wide + x) as usize]
            } else {
                0
            }
        };
        let distance = |y: i64, x: i64| {
            let rows = -border..tall + border;
            let others = rows.flat_map(|v| (-border..wide + border).map(move |u| (v, u)));
            let others = others.filter(|&(v, u)| at(v, u) != at(y, x));
            let squares = others.map(|(v, u)| (v - y).pow(2) + (u - x).pow(2));
            (squares.min().unwrap() as f64).sqrt()
        };
        let places = (0..tall * wide).map(|pixel| distance(pixel / wide, pixel % wide));
        let all: Vec<f64> = places.collect();
        let depth = |(pixel, &distance): (usize, &f64)| {
            if labels[pixel] == 0 {
                return 0.;
            }
            let same = all.iter().zip(labels).filter(|(_, l)| **l == labels[pixel]);
            let most = same.map(|(distance, _)| *distance).fold(0., f64::max);
            (distance / (most + 1e-10)) as f32
        };
        all.iter().enumerate().map(depth).collect()
    }

    #[test]
    fn depths_are_those_of_the_definition() {
        for seed in 0..40 {
            let (height, width) = (1 + seed as usize % 9, 1 + seed as usize * 5 % 13);
            // Few labels in blocks, so that there are objects of some depth.
            let drawn = noise(seed + 1, 200);
            let label = |y: usize, x: usize| {
                let drawn = drawn[(y / 3) * 7 + x / 4];
                [0, 2, 2, 9, 70_000][(drawn.abs() * 4.99) as usize]
            };
            let labels: Vec<u32> = (0..height * width)
                .map(|i| label(i / width, i % width))
                .collect();
            let found = object_depths(&labels, height, width).unwrap();
            if labels.iter().all(|&label| label == 0) {
                assert!(found.iter().all(|&depth| depth == 0.));
                continue;
            }
            assert_eq!(found, plain(&labels, height, width), "{labels:?}");
        }
    }

    #[test]
    fn the_edge_of_the_image_is_no_border() {
        // The object goes on beyond the left edge: it is deepest there.
        let found = object_depths(&[5, 5, 5, 0], 1, 4).unwrap();
        assert_eq!(found, [1., 2. / 3., 1. / 3., 0.]);
        let whole = object_depths(&[5; 9], 3, 3).unwrap();
        assert_eq!(whole, [0.5, 0.5, 0.5, 0.5, 1., 0.5, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn sizes_are_checked() {
        let error = object_depths(&[1, 2], 2, 2).unwrap_err().to_string();
        assert!(error.contains("expected 1 x 2 x 2"), "{error}");
        assert!(object_depths(&[], 0, 7).unwrap().is_empty());
    }
}
