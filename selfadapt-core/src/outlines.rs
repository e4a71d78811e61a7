//! Where the outlines lie: a model may draw every cell too large or too small for images that it does not know; the images
//! themselves say where a cell ends, by changing most there.

use candle_core::Tensor;
use selfadapt_kernels::gaussian::{Edge, gaussian};
use serde::{Deserialize, Serialize};

use crate::diameter::{diameters, median};
use crate::error::{Error, Result};
use crate::foreground::Foreground;
use crate::labels::Labels;
use crate::maps::Prediction;
use crate::model::InstanceDecoder;

/// How outlines are compared with the edges in the images, and fitted to them, before anything is learned, by one number: the
/// bias of the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outlines {
    /// Whether a run begins with fitted outlines; otherwise it says where outlines look too wide.
    pub apply: bool,
    /// The most by which the foreground's logits are lowered, 0 not to look at all.
    pub most: f64,
    /// The share of cells that may be lost by it, in `[0, 1]`: those whose logits are low everywhere.
    pub lost: f64,
    /// Of the sharpness that could be won, the share that is enough, in `[0, 1]`: the smallest fall that wins it is taken.
    pub enough: f64,
}

impl Default for Outlines {
    fn default() -> Self {
        Self {
            apply: false,
            most: 3.,
            lost: 0.02,
            enough: 0.7,
        }
    }
}

impl Outlines {
    /// Outlines are not looked at.
    pub fn off() -> Self {
        Self {
            most: 0.,
            ..Self::default()
        }
    }
}

impl Outlines {
    /// Checks the settings.
    ///
    /// # Errors
    /// If a share lies outside `[0, 1]`, or `most` is not from 0 to 16.
    pub fn check(&self) -> Result<()> {
        for (name, value, most) in [
            ("most", self.most, 16.),
            ("lost", self.lost, 1.),
            ("enough", self.enough, 1.),
        ] {
            if !(0. ..=most).contains(&value) {
                return Err(Error::Setting(format!(
                    "outlines.{name}: expected 0 to {most}, found {value}"
                )));
            }
        }
        Ok(())
    }
}

/// What outlines look like where logits are lowered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// By how much.
    pub fall: f64,
    /// How much more the image changes at the outlines than at those that the model draws by itself: the median over cells
    /// of the logarithm of the ratio.
    pub sharper: f64,
    /// The share of the cells that are lost.
    pub lost: f64,
}

/// How outlines lie, and what would fit them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// By how much the foreground's bias is to be lowered for outlines to lie on edges.
    pub fall: f64,
    /// What was seen, from the smallest fall on; nothing where a model finds no cells.
    pub levels: Vec<Level>,
}

impl Fit {
    /// The level that fits, if it is another than the model's own.
    pub fn taken(&self) -> Option<&Level> {
        let mut levels = self.levels.iter();
        levels.find(|level| level.fall == self.fall)
    }
}

/// Falls are multiples of it.
const STEP: f64 = 0.25;
/// A gain in sharpness (a logarithm of a ratio) below this is nothing.
const LEAST: f64 = 0.01;
/// Edges are sought at this share of the cells' diameter: finer ones are texture and noise.
const FINENESS: f64 = 1. / 20.;
/// A cell of which less is left is lost.
const LEFT: f64 = 0.25;

impl Outlines {
    /// Looks at the outlines in `crops` `[N, C, H, W]` that `decoder` draws from `maps` of them, one entry a crop, while the
    /// foreground's logits fall, and takes the fall.
    ///
    /// # Errors
    /// If the maps do not fit the decoder or the crops, or have no such head.
    pub fn fit(
        &self,
        foreground: &Foreground,
        crops: &Tensor,
        maps: &[Prediction],
        decoder: &dyn InstanceDecoder,
    ) -> Result<Fit> {
        let (_, _, height, width) = crops.dims4()?;
        let drawn = |fall| foreground.drawn(maps, fall, (height, width), decoder);
        let first = drawn(0.)?;
        let diameter = median(&mut first.iter().flat_map(diameters).collect::<Vec<_>>());
        if diameter.is_nan() {
            return Ok(Fit::default());
        }
        let sigma = (FINENESS * diameter).max(1.);
        let edges = (0..maps.len())
            .map(|index| edges(&crops.get(index)?, sigma))
            .collect::<Result<Vec<_>>>()?;
        let (mut levels, mut best) = (Vec::new(), 0.);
        for step in 1..=(self.most / STEP) as usize {
            let fall = STEP * step as f64;
            let level = compare(fall, &edges, &first, &drawn(fall)?);
            if level.lost > self.lost {
                break;
            }
            levels.push(level);
            best = f64::max(best, level.sharper);
            // Past the edges.
            if level.sharper < self.enough * best {
                break;
            }
        }
        Ok(Fit {
            fall: self.take(&levels),
            levels,
        })
    }

    /// The rule: the smallest fall that wins `enough` of what the best one does.
    fn take(&self, levels: &[Level]) -> f64 {
        let best = levels.iter().map(|level| level.sharper);
        let best = best.fold(0., f64::max);
        let wins = |level: &&Level| level.sharper >= self.enough * best;
        match levels.iter().find(wins) {
            Some(level) if best > LEAST => level.fall,
            _ => 0.,
        }
    }
}

/// How much an image `[C, H, W]` changes at each pixel: the norm of the gradient over channels and axes, smoothed by `sigma`.
fn edges(image: &Tensor, sigma: f64) -> Result<Vec<f32>> {
    let (channels, height, width) = image.dims3()?;
    let mut squares = vec![0f32; height * width];
    for channel in 0..channels {
        let plane = image.get(channel)?.flatten_all()?.to_vec1::<f32>()?;
        let smooth = gaussian(&plane, (height, width), (sigma, sigma), Edge::Mirrored)?;
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

/// Each object's mean of `edges` along its outline: over all pairs of neighbours of which one is the object's and the other
/// background's. None where it has no such pair.
fn sharpness(edges: &[f32], labels: &Labels) -> Vec<Option<f64>> {
    let pixels = labels.pixels();
    let (height, width) = labels.size();
    let mut sums = vec![(0f64, 0usize); labels.count()];
    let mut pair = |one: (usize, usize), other: (usize, usize)| {
        let of = match (pixels[one], pixels[other]) {
            (label, 0) | (0, label) if label > 0 => label as usize - 1,
            _ => return,
        };
        let both = edges[one.0 * width + one.1] + edges[other.0 * width + other.1];
        sums[of].0 += 0.5 * f64::from(both);
        sums[of].1 += 1;
    };
    for y in 0..height {
        for x in 0..width {
            if x + 1 < width {
                pair((y, x), (y, x + 1));
            }
            if y + 1 < height {
                pair((y, x), (y + 1, x));
            }
        }
    }
    sums.into_iter()
        .map(|(sum, pairs)| (pairs > 0).then(|| sum / pairs as f64))
        .collect()
}

/// What became of the cells of `first` in `now`.
fn compare(fall: f64, edges: &[Vec<f32>], first: &[Labels], now: &[Labels]) -> Level {
    let (mut ratios, mut cells, mut lost) = (Vec::new(), 0, 0);
    for ((edges, first), now) in edges.iter().zip(first).zip(now) {
        let (before, after) = (sharpness(edges, first), sharpness(edges, now));
        let heirs = heirs(first, now);
        cells += heirs.len();
        for (heir, before) in heirs.into_iter().zip(before) {
            let Some(heir) = heir else {
                lost += 1;
                continue;
            };
            if let (Some(before), Some(after)) = (before, after[heir])
                && before > 0.
                && after > 0.
            {
                ratios.push((after / before).ln());
            }
        }
    }
    let sharper = median(&mut ratios);
    Level {
        fall,
        sharper: if sharper.is_finite() { sharper } else { 0. },
        lost: if cells == 0 {
            0.
        } else {
            f64::from(lost) / cells as f64
        },
    }
}

/// For each object of `first` the index of that of `now` with most of its pixels; none where too few are left.
fn heirs(first: &Labels, now: &Labels) -> Vec<Option<usize>> {
    let mut shared = std::collections::BTreeMap::<(u32, u32), usize>::new();
    for (&old, &new) in first.as_slice().iter().zip(now.as_slice()) {
        if old > 0 && new > 0 {
            *shared.entry((old, new)).or_default() += 1;
        }
    }
    let areas = first.areas();
    let mut best = vec![(0, None); areas.len()];
    for ((old, new), pixels) in shared {
        let entry = &mut best[old as usize - 1];
        if pixels > entry.0 {
            *entry = (pixels, Some(new as usize - 1));
        }
    }
    best.into_iter()
        .zip(areas)
        .map(|((pixels, heir), area)| heir.filter(|_| pixels as f64 >= LEFT * area as f64))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreground::fixtures::{Above, FOREGROUND, square};
    use candle_core::Device;

    const SIDE: usize = 64;

    fn distance(y: usize, x: usize, middle: f64) -> f64 {
        (y as f64 - 32.).hypot(x as f64 - middle)
    }

    /// A bright disc in a crop `[1, 1, SIDE, SIDE]`.
    fn disc(radius: f64) -> Tensor {
        let bright = square(SIDE, |y, x| f64::from(distance(y, x, 16.) < radius));
        bright.embedding
    }

    /// Cones of logits: above 0 within `radius` of the disc's middle, and, of a height of `faint`, elsewhere.
    fn cones(radius: f64, faint: f64) -> Vec<Prediction> {
        let cone = |y, x| (radius - distance(y, x, 16.)).max(faint - distance(y, x, 48.));
        vec![square(SIDE, |y, x| 0.25 * cone(y, x))]
    }

    fn fit(disc_radius: f64, drawn: f64, faint: f64) -> Fit {
        // Nearly all of what can be won: edges as hard as these are far sharper than others long before.
        let outlines = Outlines {
            enough: 0.9,
            ..Outlines::default()
        };
        let (crop, maps) = (disc(disc_radius), cones(drawn, faint));
        outlines.fit(&FOREGROUND, &crop, &maps, &Above).unwrap()
    }

    #[test]
    fn outlines_fall_to_where_the_image_changes() {
        // Four pixels too large, a quarter of a logit each.
        let found = fit(8., 12., 0.);
        assert!((0.75..=1.).contains(&found.fall), "{found:?}");
        assert_eq!(fit(10., 10., 0.).fall, 0.);
        assert_eq!(fit(12., 8., 0.).fall, 0., "logits are never raised");
    }

    #[test]
    fn no_more_cells_are_lost_than_may_be() {
        // The other cell is gone at a fall of 0.5, and has lost three quarters before.
        let found = fit(8., 12., 2.);
        assert!(found.fall < 0.5, "{found:?}");
        assert!(found.levels.iter().all(|level| level.lost == 0.));
        let all = Outlines {
            lost: 0.5,
            ..Outlines::default()
        };
        let found = all
            .fit(&FOREGROUND, &disc(8.), &cones(12., 2.), &Above)
            .unwrap();
        assert!(
            found.levels.iter().any(|level| level.lost == 0.5),
            "{found:?}"
        );
    }

    #[test]
    fn nothing_found_is_nothing_fitted() {
        assert_eq!(fit(8., -1., -1.), Fit::default());
        // Nothing to see: no outline is sharper than another.
        let flat = Tensor::ones((1, 1, SIDE, SIDE), candle_core::DType::F32, &Device::Cpu).unwrap();
        let outlines = Outlines::default();
        let found = outlines.fit(&FOREGROUND, &flat, &cones(12., 0.), &Above);
        assert_eq!(found.unwrap().fall, 0.);
    }

    #[test]
    fn the_smallest_fall_that_wins_enough_is_taken() {
        let level = |fall, sharper| Level {
            fall,
            sharper,
            lost: 0.,
        };
        let take = |levels: &[Level]| Outlines::default().take(levels);
        assert_eq!(
            take(&[level(0.25, 0.05), level(0.5, 0.085), level(0.75, 0.1)]),
            0.5
        );
        assert_eq!(take(&[level(0.25, 0.005)]), 0.);
        assert_eq!(take(&[level(0.25, -0.1)]), 0.);
        assert_eq!(take(&[]), 0.);
    }
}
