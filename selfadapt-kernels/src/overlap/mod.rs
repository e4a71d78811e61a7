//! Counts the pixels that each instance of one image shares with each of another.
//!
//! The sparse form of `_label_overlap` in Cellpose's `metrics` and of the contingency table behind
//! StarDist's `matching`: the intersection over union of two instances is `n / (a + b - n)`, `a` and `b`
//! their areas and `n` the pixels they share.

mod cpu;

use candle_core::{Result, bail};

/// Pixels that an instance of the first image and one of the second share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shared {
    /// Label in the first image, never 0.
    pub label_a: u32,
    /// Label in the second image, never 0.
    pub label_b: u32,
    /// How many pixels have both, at least 1.
    pub pixels: usize,
}

/// How the instances of two images lie over each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Labels of the first image, ascending, each with its area in pixels.
    pub areas_a: Vec<(u32, usize)>,
    /// Labels of the second image, ascending, each with its area in pixels.
    pub areas_b: Vec<(u32, usize)>,
    /// All pairs that share a pixel, by ascending `(label_a, label_b)`.
    pub shared: Vec<Shared>,
}

/// Intersections of all instances of `a` with those of `b`, two images of one size, pixel by pixel.
///
/// Background (0) is left out. Labels may have gaps and any size: memory is bounded by the number of
/// horizontal runs of equal label pairs.
///
/// # Errors
/// If the two differ in length.
pub fn overlap(a: &[u32], b: &[u32]) -> Result<Overlap> {
    if a.len() != b.len() {
        bail!(
            "overlap: expected two images of one size, found {} and {} pixels",
            a.len(),
            b.len()
        );
    }
    Ok(cpu::overlap(a, b))
}

impl Overlap {
    /// Intersection over union of every pair in [`Overlap::shared`], in the same order; all other pairs have 0.
    pub fn iou(&self) -> impl Iterator<Item = f64> {
        self.shared.iter().map(|pair| {
            let union =
                area(&self.areas_a, pair.label_a) + area(&self.areas_b, pair.label_b) - pair.pixels;
            pair.pixels as f64 / union as f64
        })
    }
}

fn area(areas: &[(u32, usize)], label: u32) -> usize {
    areas
        .binary_search_by_key(&label, |&(label, _)| label)
        .map_or(0, |at| areas[at].1)
}
