//! Gaussian smoothing of an image, as SciPy's `ndimage.gaussian_filter` does it.
//!
//! `y[i] = sum over |k| <= r of w[k] x[i + k]` along the columns' axis, then along the rows', with
//! `w[k] ~ exp(-k^2 / (2 sigma^2))`, `r = floor(4 sigma + 1/2)`; sums are f64 and each axis' result f32.

use candle_core::{Result, bail};
use rayon::prelude::*;

use crate::objects::expect_size;

/// What lies beyond an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The image mirrored, its edge pixels repeated (SciPy's `reflect`).
    Mirrored,
    /// Zeros (SciPy's `constant`).
    Zero,
}

/// Smooths `image` `[height, width]` by standard deviations `sigma` (down, across) in pixels; 0 leaves an axis alone.
///
/// # Errors
/// If `image` does not hold `height * width` numbers, or a standard deviation is not in 0 to 1000.
pub fn gaussian(
    image: &[f32],
    (height, width): (usize, usize),
    sigma: (f64, f64),
    edge: Edge,
) -> Result<Vec<f32>> {
    expect_size("gaussian", "image", image.len(), [1, height, width])?;
    for sigma in [sigma.0, sigma.1] {
        if !(0. ..=1000.).contains(&sigma) {
            bail!("gaussian: expected a standard deviation of 0 to 1000 pixels, found {sigma}");
        }
    }
    let mut smooth = image.to_vec();
    if image.is_empty() {
        return Ok(smooth);
    }
    if let Some(kernel) = half_kernel(sigma.0) {
        smooth = down(&smooth, width, &kernel, edge);
    }
    if let Some(kernel) = half_kernel(sigma.1) {
        let lines = smooth.par_chunks_mut(width);
        lines.for_each_init(Vec::new, |line, row| across(row, &kernel, edge, line));
    }
    Ok(smooth)
}

/// Weights from the centre outwards; none where there is nothing to smooth.
fn half_kernel(sigma: f64) -> Option<Vec<f64>> {
    if sigma <= 1e-15 {
        return None;
    }
    let radius = (4. * sigma + 0.5) as usize;
    let weight = |k: usize| (-0.5 / (sigma * sigma) * (k * k) as f64).exp();
    // From the left to the right, as NumPy would for so few numbers.
    let total: f64 = (1..=radius).rev().chain(0..=radius).map(weight).sum();
    Some((0..=radius).map(|k| weight(k) / total).collect())
}

/// Where position `at` of an axis reads; none for a zero.
fn place(at: isize, length: usize, edge: Edge) -> Option<usize> {
    match edge {
        Edge::Zero => usize::try_from(at).ok().filter(|&at| at < length),
        Edge::Mirrored => {
            let inside = at.rem_euclid(2 * length as isize) as usize;
            Some(inside.min(2 * length - 1 - inside))
        }
    }
}

/// Along the first axis: a weighted sum of rows, in the order in which SciPy adds (outermost pair first).
fn down(image: &[f32], width: usize, kernel: &[f64], edge: Edge) -> Vec<f32> {
    let height = image.len() / width;
    let row = |at: isize| {
        let at = place(at, height, edge)?;
        image.get(at * width..(at + 1) * width)
    };
    let mut smooth = vec![0.; image.len()];
    smooth.par_chunks_mut(width).enumerate().for_each_init(
        Vec::new,
        |sums: &mut Vec<f64>, (y, out)| {
            let (y, nothing) = (y as isize, vec![0.; 0]);
            sums.clear();
            sums.extend(
                image[y as usize * width..][..width]
                    .iter()
                    .map(|&value| f64::from(value) * kernel[0]),
            );
            for (k, weight) in kernel.iter().enumerate().skip(1).rev() {
                let above = row(y - k as isize).unwrap_or(&nothing);
                let below = row(y + k as isize).unwrap_or(&nothing);
                for (x, sum) in sums.iter_mut().enumerate() {
                    let at = |row: &[f32]| row.get(x).map_or(0., |&value| f64::from(value));
                    *sum += (at(above) + at(below)) * weight;
                }
            }
            for (out, &sum) in out.iter_mut().zip(&*sums) {
                *out = sum as f32;
            }
        },
    );
    smooth
}

/// Along one row; `line` is working memory.
fn across(row: &mut [f32], kernel: &[f64], edge: Edge, line: &mut Vec<f64>) {
    let (radius, width) = (kernel.len() - 1, row.len());
    line.clear();
    let reach = -(radius as isize)..(width + radius) as isize;
    line.extend(reach.map(|at| place(at, width, edge).map_or(0., |at| f64::from(row[at]))));
    for (x, out) in row.iter_mut().enumerate() {
        let middle = x + radius;
        let mut sum = line[middle] * kernel[0];
        for (k, weight) in kernel.iter().enumerate().skip(1).rev() {
            sum += (line[middle - k] + line[middle + k]) * weight;
        }
        *out = sum as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.ndimage.gaussian_filter(numpy.arange(12.).reshape(3, 4) % 5, (0.7, 0.4), mode=...)` of SciPy 1.17.
    #[test]
    fn smoothed_images_are_those_of_scipy() {
        let image: Vec<f32> = (0..12).map(|n| (n % 5) as f32).collect();
        for (edge, expected) in [(Edge::Mirrored, MIRRORED), (Edge::Zero, ZERO)] {
            let found = gaussian(&image, (3, 4), (0.7, 0.4), edge).unwrap();
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6, "{edge:?}: {found:?}");
            }
        }
    }

    const MIRRORED: [f32; 12] = [
        0.886_252_2,
        0.855_650_66,
        1.767_476,
        2.725_111_7,
        2.850_184_4,
        1.146_779_2,
        1.043_430_4,
        1.959_605_8,
        3.182_767_4,
        2.997_580_5,
        0.391_055_64,
        1.194_105_9,
    ];
    const ZERO: [f32; 12] = [
        0.806_327_1,
        0.647_860_2,
        1.347_027_3,
        2.012_220_4,
        2.703_152_4,
        1.100_593_6,
        1.022_126_3,
        1.842_462_4,
        2.419_113_6,
        2.215_394_5,
        0.339_718_22,
        0.937_032_7,
    ];

    #[test]
    fn nothing_changes_without_smoothing_and_a_constant_stays() {
        let image = [1., 2., 3., 4.];
        assert_eq!(
            gaussian(&image, (2, 2), (0., 0.), Edge::Zero).unwrap(),
            image
        );
        let flat = gaussian(&[0.5; 35], (5, 7), (3., 3.), Edge::Mirrored).unwrap();
        assert!(flat.iter().all(|v| (v - 0.5).abs() < 1e-6));
        assert!(
            gaussian(&[], (0, 3), (1., 1.), Edge::Zero)
                .unwrap()
                .is_empty()
        );
        assert!(gaussian(&image, (2, 3), (1., 1.), Edge::Zero).is_err());
        assert!(gaussian(&image, (2, 2), (f64::NAN, 1.), Edge::Zero).is_err());
    }
}
