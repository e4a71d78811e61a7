//! How far the logits of each object are to fall for its outline to lie on an edge of the image.

use super::Outlines;
use super::edges::neighbours;
use super::surroundings::Surroundings;
use crate::labels::Labels;

/// Falls are multiples of it.
const STEP: f64 = 0.25;
/// A gain in sharpness (a logarithm of a ratio) below this is nothing.
const LEAST: f64 = 0.05;
/// An object of which less is left is lost.
const LEFT: f64 = 0.25;
/// With fewer pixels of background at some distance, those close by are taken too.
const FEW: usize = 8;

/// What an object's outline would be like after a fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    /// The fall.
    pub fall: f64,
    /// How much more the image changes along the outline than along the one that the model draws: the logarithm of the ratio.
    pub sharper: f64,
}

/// One crop, as the levels of its objects are judged by.
pub(super) struct Crop<'a> {
    /// Its channels, each row by row.
    pub planes: &'a [Vec<f32>],
    /// How much it changes at each pixel.
    pub edges: &'a [f32],
    /// The logits by which objects are told from background.
    pub logits: &'a [f32],
    /// The objects.
    pub labels: &'a Labels,
    /// Whose the pixels around them are.
    pub surroundings: &'a Surroundings,
}

/// What pixels look like together.
#[derive(Clone)]
struct Colour {
    /// Sums of each channel.
    sums: Vec<f64>,
    /// Their number.
    pixels: usize,
}

impl Colour {
    fn none(channels: usize) -> Self {
        Self {
            sums: vec![0.; channels],
            pixels: 0,
        }
    }

    fn add(&mut self, planes: &[Vec<f32>], pixel: usize) {
        for (sum, plane) in self.sums.iter_mut().zip(planes) {
            *sum += f64::from(plane[pixel]);
        }
        self.pixels += 1;
    }

    fn and(&self, other: &Self) -> Self {
        let sums = self.sums.iter().zip(&other.sums);
        Self {
            sums: sums.map(|(a, b)| a + b).collect(),
            pixels: self.pixels + other.pixels,
        }
    }

    /// How far two are apart, by their means.
    fn apart(&self, other: &Self) -> f64 {
        let (own, others) = (self.pixels as f64, other.pixels as f64);
        let means = self.sums.iter().zip(&other.sums);
        let squares = means.map(|(a, b)| (a / own - b / others).powi(2));
        squares.sum::<f64>().sqrt()
    }
}

/// What is counted of one object; entry `j` of a list is of the layer whose logits lie between the falls `j - 1` and `j`.
struct Object {
    /// Sum of edges over pairs of neighbours that the outline would run between, and their number, by fall.
    outline: Vec<(f64, usize)>,
    /// The layers; the last is all that is left after the largest fall.
    layers: Vec<Colour>,
    /// Pixels and their logits.
    pixels: Vec<(f32, usize)>,
    /// The background around it, at some distance.
    far: Colour,
    /// The background close by.
    near: Colour,
}

impl Outlines {
    /// The level that fits each object of a crop; none where the one that the model draws does.
    pub(super) fn levels(&self, crop: &Crop) -> Vec<Option<Level>> {
        let steps = (self.most / STEP) as usize;
        count(crop, steps)
            .into_iter()
            .map(|object| self.level(object, crop.planes))
            .collect()
    }

    /// The smallest fall that wins `enough` of the sharpness that can be won, as long as the layers that go look more like the
    /// background than like the object, and enough of it is left.
    fn level(&self, object: Object, planes: &[Vec<f32>]) -> Option<Level> {
        let area = object.pixels.len();
        let (first, pairs) = object.outline[0];
        let first = first / pairs as f64;
        if pairs == 0 || first <= 0. {
            return None;
        }
        let core = core(object.pixels, planes);
        let around = match object.far.pixels < FEW {
            true => object.far.and(&object.near),
            false => object.far,
        };
        let contrast = core.apart(&around);
        // No number where there is no background.
        if contrast.is_nan() || contrast <= 0. {
            return None;
        }
        let (mut left, mut levels) = (area - object.layers[0].pixels, Vec::new());
        let falls = object.outline.iter().zip(&object.layers).enumerate();
        for (step, ((sum, pairs), layer)) in falls.skip(1) {
            left -= layer.pixels;
            if (left as f64) < LEFT * area as f64 {
                break;
            }
            // What is neither like the object nor like the background, as a bright membrane, stays.
            let likeness = 1. - layer.apart(&around) / contrast;
            if layer.pixels > 0 && likeness < self.beyond {
                break;
            }
            levels.push(Level {
                fall: STEP * step as f64,
                sharper: (sum / *pairs as f64 / first).ln(),
            });
        }
        let best = levels.iter().map(|level| level.sharper).fold(0., f64::max);
        if best <= LEAST {
            return None;
        }
        let wins = |level: &Level| level.sharper >= self.enough * best;
        levels.into_iter().find(wins)
    }
}

/// The half of an object's pixels whose logits are highest.
fn core(mut pixels: Vec<(f32, usize)>, planes: &[Vec<f32>]) -> Colour {
    let half = pixels.len() / 2;
    if half < pixels.len() {
        pixels.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0));
    }
    let mut core = Colour::none(planes.len());
    for &(_, pixel) in &pixels[half..] {
        core.add(planes, pixel);
    }
    core
}

/// Goes over the pixels of a crop, and over the pairs of neighbours.
fn count(crop: &Crop, steps: usize) -> Vec<Object> {
    let none = || Colour::none(crop.planes.len());
    let mut objects: Vec<Object> = (0..crop.labels.count())
        .map(|_| Object {
            outline: vec![(0., 0); steps + 1],
            layers: vec![none(); steps + 2],
            pixels: Vec::new(),
            far: none(),
            near: none(),
        })
        .collect();
    let labels = crop.labels.as_slice();
    // After which fall a pixel is no longer the object's.
    let until = |pixel: usize| match labels[pixel] {
        0 => 0,
        _ => ((f64::from(crop.logits[pixel]) / STEP).ceil().max(0.) as usize).min(steps + 1),
    };
    for (one, other) in neighbours(crop.labels.size()) {
        let label = match (labels[one], labels[other]) {
            (0, 0) => continue,
            (0, label) | (label, 0) => label,
            (a, b) if a == b => a,
            _ => continue,
        };
        let (a, b) = (until(one), until(other));
        let both = 0.5 * f64::from(crop.edges[one] + crop.edges[other]);
        for (sum, pairs) in
            &mut objects[label as usize - 1].outline[a.min(b)..a.max(b).min(steps + 1)]
        {
            *sum += both;
            *pairs += 1;
        }
    }
    let Surroundings {
        owner,
        distance,
        reach,
    } = crop.surroundings;
    for (pixel, (&owner, &distance)) in owner.iter().zip(distance).enumerate() {
        if owner == 0 {
            continue;
        }
        let object = &mut objects[owner as usize - 1];
        let colour = match distance {
            0 => {
                object.pixels.push((crop.logits[pixel], pixel));
                &mut object.layers[until(pixel)]
            }
            close if 2 * close <= *reach => &mut object.near,
            _ => &mut object.far,
        };
        colour.add(crop.planes, pixel);
    }
    objects
}
