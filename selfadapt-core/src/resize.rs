//! Resizing maps as OpenCV does: bilinear between pixel centres, and nearest for labels.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// Where an output pixel reads: two neighbours along an axis, and the share of the second.
struct Tap {
    first: usize,
    second: usize,
    share: f32,
}

/// `cv2.resize(..., INTER_LINEAR)`: pixel centres at halves, edges repeated, no smoothing when shrinking; for the output
/// pixels `wanted` of `to`.
fn taps(from: usize, to: usize, wanted: Range<usize>) -> Vec<Tap> {
    let step = 1. / (to as f64 / from as f64);
    wanted
        .map(|at| {
            let position = ((at as f64 + 0.5) * step - 0.5) as f32;
            let below = position.floor();
            let last = from - 1;
            if below < 0. {
                Tap {
                    first: 0,
                    second: 0,
                    share: 0.,
                }
            } else if below as usize >= last {
                Tap {
                    first: last,
                    second: last,
                    share: 0.,
                }
            } else {
                Tap {
                    first: below as usize,
                    second: below as usize + 1,
                    share: position - below,
                }
            }
        })
        .collect()
}

/// Resizes `[H, W]` to `(height, width)` as `cv2.resize` with `INTER_LINEAR` does in f32.
///
/// An empty map, or an empty size, gives zeros.
pub fn bilinear(map: ArrayView2<f32>, (height, width): (usize, usize)) -> Array2<f32> {
    let (from_height, from_width) = map.dim();
    if (from_height, from_width) == (height, width) || map.is_empty() || height * width == 0 {
        let mut resized = Array2::zeros((height, width));
        if map.dim() == resized.dim() {
            resized.assign(&map);
        }
        return resized;
    }
    let (rows, columns) = (
        taps(from_height, height, 0..height),
        taps(from_width, width, 0..width),
    );
    blended(map, &rows, &columns)
}

fn blended(map: ArrayView2<f32>, rows: &[Tap], columns: &[Tap]) -> Array2<f32> {
    let blend = |a: f32, b: f32, share: f32| a * (1. - share) + b * share;
    let pixels: Vec<f32> = rows
        .par_iter()
        .flat_map_iter(|row| {
            let (above, below) = (map.row(row.first), map.row(row.second));
            columns.iter().map(move |column| {
                let (left, right, share) = (column.first, column.second, column.share);
                blend(
                    blend(above[left], above[right], share),
                    blend(below[left], below[right], share),
                    row.share,
                )
            })
        })
        .collect();
    Array2::from_shape_vec((rows.len(), columns.len()), pixels).unwrap_or_default()
}

/// Along one axis: a part of an axis that is resized from `from` to `to` pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Pixels before resizing, of the whole axis.
    pub from: usize,
    /// Pixels after resizing, of the whole axis.
    pub to: usize,
    /// The resized pixels that are wanted.
    pub wanted: Range<usize>,
}

impl Span {
    /// The pixels before resizing that the wanted ones are made from.
    pub fn source(&self) -> Range<usize> {
        if self.from == self.to {
            return self.wanted.clone();
        }
        let end = self.wanted.end.saturating_sub(1).max(self.wanted.start);
        let at = |at: usize| taps(self.from, self.to, at..at + 1).pop();
        match (at(self.wanted.start), at(end)) {
            (Some(first), Some(last)) if self.from > 0 => first.first..last.second + 1,
            _ => 0..0,
        }
    }
}

/// The part of [`bilinear`]'s result that `rows` and `columns` want, from the part of the map that they come from:
/// `part` holds the pixels `rows.source()` x `columns.source()`. The same numbers, bit for bit.
///
/// # Errors
/// If `part` has another size.
pub fn bilinear_part(part: ArrayView2<f32>, rows: &Span, columns: &Span) -> Result<Array2<f32>> {
    let (down, across) = (rows.source(), columns.source());
    if part.dim() != (down.len(), across.len()) {
        return Err(Error::Image(format!(
            "expected rows {down:?} and columns {across:?} of a map, found {:?} pixels",
            part.dim()
        )));
    }
    if rows.from == rows.to && columns.from == columns.to {
        return Ok(part.to_owned());
    }
    let local = |span: &Span, source: &Range<usize>| -> Vec<Tap> {
        let mut taps = taps(span.from, span.to, span.wanted.clone());
        for tap in &mut taps {
            tap.first = (tap.first - source.start).min(source.len() - 1);
            tap.second = (tap.second - source.start).min(source.len() - 1);
        }
        taps
    };
    Ok(blended(part, &local(rows, &down), &local(columns, &across)))
}

/// Resizes labels `[H, W]` to `(height, width)` as `cv2.resize` with `INTER_NEAREST` does.
///
/// An empty map, or an empty size, gives zeros.
pub fn nearest(labels: ArrayView2<u32>, (height, width): (usize, usize)) -> Array2<u32> {
    let (from_height, from_width) = labels.dim();
    if labels.is_empty() {
        return Array2::zeros((height, width));
    }
    let source = |at: usize, from: usize, to: usize| {
        let step = 1. / (to as f64 / from as f64);
        ((at as f64 * step).floor() as usize).min(from - 1)
    };
    let columns: Vec<usize> = (0..width).map(|x| source(x, from_width, width)).collect();
    Array2::from_shape_fn((height, width), |(y, x)| {
        labels[[source(y, from_height, height), columns[x]]]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;
    use proptest::prelude::*;

    #[test]
    fn resized_maps_are_those_of_opencv() {
        // cv2.resize(np.array([[0, 1, 4], [9, 16, 25]], "float32"), (5, 3))
        let map = array![[0., 1., 4.], [9., 16., 25.]];
        let expected = array![
            [0., 0.4, 1., 2.8, 4.],
            [4.5, 6.1, 8.5, 12.1, 14.5],
            [9., 11.8, 16., 21.4, 25.]
        ];
        let found = bilinear(map.view(), (3, 5));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 3e-6, "{found} {expected}");
        }
    }

    #[test]
    fn labels_take_the_pixel_that_opencv_takes() {
        let labels = array![[1, 2, 3, 4, 5]];
        assert_eq!(nearest(labels.view(), (1, 3)), array![[1, 2, 4]]);
        assert_eq!(
            nearest(labels.view(), (2, 7)).row(1),
            array![1, 1, 2, 3, 3, 4, 5]
        );
    }

    proptest! {
        #[test]
        fn parts_are_those_of_the_whole(
            (h, w) in (1usize..20, 1usize..20), (height, width) in (1usize..40, 1usize..40), cut in 0usize..1600,
        ) {
            let map = Array2::from_shape_fn((h, w), |(y, x)| ((y * 31 + x * 17) % 23) as f32 / 7.);
            let whole = bilinear(map.view(), (height, width));
            let span = |from, to, at: usize| {
                let first = at % to;
                Span { from, to, wanted: first..(first + 1 + at / 7 % 9).min(to) }
            };
            let (rows, columns) = (span(h, height, cut), span(w, width, cut / 40));
            let (down, across) = (rows.source(), columns.source());
            let part = Array2::from_shape_fn((down.len(), across.len()), |(y, x)| {
                map[[down.start + y, across.start + x]]
            });
            let found = bilinear_part(part.view(), &rows, &columns).unwrap();
            for ((y, x), &value) in found.indexed_iter() {
                prop_assert_eq!(value, whole[[rows.wanted.start + y, columns.wanted.start + x]]);
            }
            prop_assert_eq!(found.dim(), (rows.wanted.len(), columns.wanted.len()));
        }

        #[test]
        fn a_plane_stays_a_plane_inside(h in 2usize..12, w in 2usize..12, height in 1usize..30, width in 1usize..30) {
            let map = Array2::from_shape_fn((h, w), |(y, x)| y as f32 + 2. * x as f32);
            let found = bilinear(map.view(), (height, width));
            for ((y, x), &value) in found.indexed_iter() {
                let at = |i: usize, from: usize, to: usize| {
                    ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0., (from - 1) as f32)
                };
                let expected = at(y, h, height) + 2. * at(x, w, width);
                prop_assert!((value - expected).abs() < 1e-3);
            }
        }
    }
}
