//! How much an image changes, and how much of that lies under outlines.

use candle_core::Tensor;
use selfadapt_kernels::gaussian::{Edge, gaussian};

use crate::error::Result;
use crate::labels::Labels;

/// Width of the Gaussian, in working pixels: finer edges are texture and noise. A twentieth of a cell's diameter, where
/// networks know cells of 20 to 30 working pixels.
const SIGMA: f64 = 1.5;

/// Channels of a crop `[C, H, W]`, each row by row.
///
/// # Errors
/// If the crop has other axes.
pub(super) fn planes(crop: &Tensor) -> Result<Vec<Vec<f32>>> {
    let (channels, _, _) = crop.dims3()?;
    Ok((0..channels)
        .map(|channel| crop.get(channel)?.flatten_all()?.to_vec1::<f32>())
        .collect::<candle_core::Result<_>>()?)
}

/// How much a crop `[C, H, W]` changes at each pixel, row by row: the norm of its smoothed gradient over channels and axes.
///
/// # Errors
/// If the crop has other axes.
pub(crate) fn edges(crop: &Tensor) -> Result<Vec<f32>> {
    let (_, height, width) = crop.dims3()?;
    let mut squares = vec![0f32; height * width];
    for plane in planes(crop)? {
        let smooth = gaussian(&plane, (height, width), (SIGMA, SIGMA), Edge::Mirrored)?;
        let at = |y: usize, x: usize| smooth[y * width + x];
        for y in 0..height {
            for x in 0..width {
                let down = at((y + 1).min(height - 1), x) - at(y.saturating_sub(1), x);
                let across = at(y, (x + 1).min(width - 1)) - at(y, x.saturating_sub(1));
                squares[y * width + x] += down * down + across * across;
            }
        }
    }
    Ok(squares.into_iter().map(f32::sqrt).collect())
}

/// Every two pixels of an image of that size that share a side, by their places row by row.
pub(super) fn neighbours((height, width): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    (0..height * width).flat_map(move |pixel| {
        let right = (pixel % width + 1 < width).then_some((pixel, pixel + 1));
        let below = (pixel / width + 1 < height).then_some((pixel, pixel + width));
        right.into_iter().chain(below)
    })
}

/// The mean of `edges` along each object's outline: over all pairs of neighbours of which one is the object's and the other
/// background's. NaN where it has no such pair.
pub(crate) fn sharpness(edges: &[f32], labels: &Labels) -> Vec<f64> {
    let pixels = labels.as_slice();
    let mut sums = vec![(0f64, 0usize); labels.count()];
    for (one, other) in neighbours(labels.size()) {
        let of = match (pixels[one], pixels[other]) {
            (label, 0) | (0, label) if label > 0 => label as usize - 1,
            _ => continue,
        };
        sums[of].0 += 0.5 * f64::from(edges[one] + edges[other]);
        sums[of].1 += 1;
    }
    let mean = |(sum, pairs): (f64, usize)| sum / pairs as f64;
    sums.into_iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    const HEIGHT: usize = 3;
    const WIDTH: usize = 20;

    /// A crop of two channels: one dark on the left and bright on the right, the other even.
    fn step() -> Tensor {
        let right = |i: usize| f32::from(u8::from(i < HEIGHT * WIDTH && i % WIDTH >= 10));
        let all = (0..2 * HEIGHT * WIDTH).map(right);
        let flat = Tensor::from_iter(all, &Device::Cpu).unwrap();
        flat.reshape((2, HEIGHT, WIDTH)).unwrap()
    }

    #[test]
    fn an_image_changes_most_where_two_greys_meet() {
        for row in edges(&step()).unwrap().chunks(WIDTH) {
            let largest = (0..WIDTH).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            assert!([Some(9), Some(10)].contains(&largest), "{row:?}");
            assert!((row[9] - row[10]).abs() < 1e-6);
            assert!(row[2] < 1e-3);
        }
    }

    #[test]
    fn an_outline_on_the_edge_is_the_sharpest() {
        let edges = edges(&step()).unwrap();
        let of = |first: usize| {
            let inside = |i: usize| u32::from(i % WIDTH >= first);
            let pixels = (0..HEIGHT * WIDTH).map(inside).collect();
            sharpness(&edges, &Labels::from_rows(HEIGHT, WIDTH, pixels).unwrap())[0]
        };
        assert!(of(10) > of(9) && of(9) > of(7) && of(10) > of(12));
        assert!(
            of(0).is_nan(),
            "an object that fills the image has no outline"
        );
    }
}
