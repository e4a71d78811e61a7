//! How far the logits of each object are to fall for its outline to lie on an edge of the image.

use super::Outlines;
use super::surroundings::Surroundings;
use crate::labels::Labels;

/// Falls are multiples of it.
pub(super) const STEP: f64 = 0.25;
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

/// What is counted of one object; entry `j` of a list is of the layer whose logits lie between the falls `j - 1` and `j`.
struct Object {
    /// Sum of edges over pairs of neighbours that the outline would run between, and their number, by fall.
    outline: Vec<(f64, usize)>,
    /// Sums of each channel over the pixels of a layer, and their number.
    layers: Vec<(Vec<f64>, usize)>,
    /// Pixels and their logits.
    pixels: Vec<(f32, usize)>,
    /// As a layer: the background around it, first that at some distance and then that close by.
    background: [(Vec<f64>, usize); 2],
}

fn add(layer: &mut (Vec<f64>, usize), planes: &[Vec<f32>], pixel: usize) {
    for (sum, plane) in layer.0.iter_mut().zip(planes) {
        *sum += f64::from(plane[pixel]);
    }
    layer.1 += 1;
}

fn mean(layer: &(Vec<f64>, usize)) -> Vec<f64> {
    layer.0.iter().map(|sum| sum / layer.1 as f64).collect()
}

impl Outlines {
    /// The level that fits each object of a crop; none where the one that the model draws does.
    pub(super) fn levels(&self, crop: &Crop, reach: u32) -> Vec<Option<Level>> {
        let steps = (self.most / STEP) as usize;
        let objects = count(crop, steps, reach);
        objects
            .iter()
            .map(|object| self.level(object, crop.planes))
            .collect()
    }

    /// The smallest fall that wins `enough` of the sharpness that can be won, as long as the layers that go look more like the
    /// background than like the object, and enough of it is left.
    fn level(&self, object: &Object, planes: &[Vec<f32>]) -> Option<Level> {
        let area = object.pixels.len();
        let (first, pairs) = object.outline[0];
        let first = first / pairs as f64;
        if pairs == 0 || first <= 0. {
            return None;
        }
        let core = core(object, planes);
        let [far, near] = &object.background;
        let around = if far.1 < FEW {
            (
                far.0.iter().zip(&near.0).map(|(a, b)| a + b).collect(),
                far.1 + near.1,
            )
        } else {
            far.clone()
        };
        if around.1 == 0 {
            return None;
        }
        let around = mean(&around);
        let contrast = apart(&core, &around);
        if contrast.is_nan() || contrast <= 0. {
            return None;
        }
        let (mut left, mut levels) = (area - object.layers[0].1, Vec::new());
        for step in 1..object.layers.len() {
            let layer = &object.layers[step];
            left -= layer.1;
            if (left as f64) < LEFT * area as f64 {
                break;
            }
            // What is neither like the object nor like the background, as a bright membrane, stays.
            let likeness = 1. - apart(&mean(layer), &around) / contrast;
            if layer.1 > 0 && likeness < self.beyond {
                break;
            }
            let (sum, pairs) = object.outline[step];
            levels.push(Level {
                fall: STEP * step as f64,
                sharper: (sum / pairs as f64 / first).ln(),
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

/// How far two colours are apart.
fn apart(one: &[f64], other: &[f64]) -> f64 {
    let squares = one.iter().zip(other).map(|(a, b)| (a - b) * (a - b));
    squares.sum::<f64>().sqrt()
}

/// The mean over the half of an object's pixels whose logits are highest, channel by channel.
fn core(object: &Object, planes: &[Vec<f32>]) -> Vec<f64> {
    let mut pixels = object.pixels.clone();
    let half = pixels.len() / 2;
    if half < pixels.len() {
        pixels.select_nth_unstable_by(half, |a, b| a.0.total_cmp(&b.0));
    }
    let mut core = (vec![0.; planes.len()], 0);
    for &(_, pixel) in &pixels[half..] {
        add(&mut core, planes, pixel);
    }
    mean(&core)
}

/// Goes over the pixels of a crop once.
fn count(crop: &Crop, steps: usize, reach: u32) -> Vec<Object> {
    let (height, width) = crop.labels.size();
    let none = || (vec![0.; crop.planes.len()], 0);
    let mut objects: Vec<Object> = (0..crop.labels.count())
        .map(|_| Object {
            outline: vec![(0., 0); steps + 1],
            layers: vec![none(); steps + 2],
            pixels: Vec::new(),
            background: [none(), none()],
        })
        .collect();
    let labels = crop.labels.as_slice();
    // After which fall a pixel is no longer the object's.
    let until = |pixel: usize| match labels[pixel] {
        0 => 0,
        _ => ((f64::from(crop.logits[pixel]) / STEP).ceil().max(0.) as usize).min(steps + 1),
    };
    let pair = |objects: &mut [Object], one: usize, other: usize| {
        let label = match (labels[one], labels[other]) {
            (0, label) | (label, 0) => label,
            (a, b) if a == b => a,
            _ => return,
        };
        if label == 0 {
            return;
        }
        let (a, b) = (until(one), until(other));
        let both = 0.5 * f64::from(crop.edges[one] + crop.edges[other]);
        for (sum, pairs) in
            &mut objects[label as usize - 1].outline[a.min(b)..a.max(b).min(steps + 1)]
        {
            *sum += both;
            *pairs += 1;
        }
    };
    for y in 0..height {
        for x in 0..width {
            let pixel = y * width + x;
            if x + 1 < width {
                pair(&mut objects, pixel, pixel + 1);
            }
            if y + 1 < height {
                pair(&mut objects, pixel, pixel + width);
            }
            let (owner, distance) = (
                crop.surroundings.owner[pixel],
                crop.surroundings.distance[pixel],
            );
            if owner == 0 {
                continue;
            }
            let object = &mut objects[owner as usize - 1];
            if distance > 0 {
                let near = usize::from(2 * distance <= reach);
                add(&mut object.background[near], crop.planes, pixel);
            } else {
                add(&mut object.layers[until(pixel)], crop.planes, pixel);
                object.pixels.push((crop.logits[pixel], pixel));
            }
        }
    }
    for object in &mut objects {
        object.layers.truncate(steps + 1);
    }
    objects
}
