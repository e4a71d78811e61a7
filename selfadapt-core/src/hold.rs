//! Holding the size of objects: what has learned without labels may find more cells and draw them larger, or wear them away. What
//! moves their size in a model, one bias or a factor on all lengths, takes that back.

use crate::error::Result;
use crate::foreground::Foreground;
use crate::labels::Labels;
use crate::lengths::Lengths;
use crate::maps::Prediction;
use crate::model::{InstanceDecoder, SegmentationModel};
use crate::params::ParamSet;

/// Drifts up to this (a logarithm of a ratio of areas) are left alone: pixels are whole.
const TOLERANCE: f64 = 0.01;
/// The most that logits fall at once, and how closely the fall is found.
const FALL: (f64, f64) = (4., 1. / 32.);
/// Lengths are multiplied by 2 at most, or by a half, at once: the logarithm, and how closely it is found.
const GROWTH: (f64, f64) = (std::f64::consts::LN_2, 1. / 256.);

/// What was changed in the weights, so that cells keep their size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// The foreground's bias was lowered by this much.
    Lowered(f64),
    /// All lengths were multiplied by this factor.
    Stretched(f64),
}

impl Held {
    /// By how much objects had shrunk before that was taken back, as the logarithm of the ratio of areas; below 0 where they
    /// had grown.
    pub fn shrunk(self) -> f64 {
        match self {
            // An area goes with the square of its lengths. A bias says nothing of areas.
            Self::Stretched(factor) => 2. * factor.ln(),
            Self::Nothing | Self::Lowered(_) => 0.,
        }
    }
}

/// What moves the size of objects in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lever {
    /// One bias, which is only lowered: cells that are drawn tighter than at first may be so for good reason.
    Foreground(Foreground),
    /// All lengths, which are held to what they were from both sides.
    Lengths(Lengths),
}

/// Maps of images of `size` pixels, and what is asked of the instances that `decoder` draws from them: how far they have
/// drifted, below 0 where objects are drawn larger than at first.
pub struct Asked<'a> {
    /// One entry an image.
    pub maps: &'a [Prediction],
    /// Height and width.
    pub size: (usize, usize),
    /// Draws the instances.
    pub decoder: &'a dyn InstanceDecoder,
    /// The drift; no number where there is nothing to compare.
    pub drift: &'a dyn Fn(Vec<Labels>) -> f64,
}

impl Asked<'_> {
    /// The drift of maps that are changed before they are decoded.
    fn once(&self, changed: impl Fn(&Prediction) -> Result<Prediction>) -> Result<f64> {
        let drawn = self.maps.iter();
        let drawn = drawn.map(|maps| self.decoder.decode(&changed(maps)?, self.size));
        Ok((self.drift)(drawn.collect::<Result<_>>()?))
    }
}

impl Lever {
    /// What moves the size of a model's objects, if anything does.
    pub fn of(model: &dyn SegmentationModel) -> Option<Self> {
        let lengths = model.lengths().map(Self::Lengths);
        lengths.or_else(|| model.foreground().map(Self::Foreground))
    }

    /// Whether anything is to be done about a drift.
    pub fn holds(self, drift: f64) -> bool {
        match self {
            Self::Foreground(_) => drift < -TOLERANCE,
            Self::Lengths(_) => drift.abs() > TOLERANCE,
        }
    }

    /// What is to be done for objects to have their first size.
    ///
    /// # Errors
    /// If the maps do not fit the decoder, or are not the model's.
    pub fn find(&self, asked: &Asked) -> Result<Held> {
        Ok(match self {
            Self::Foreground(foreground) => match fall_for(foreground, asked)? {
                0. => Held::Nothing,
                fall => Held::Lowered(fall),
            },
            Self::Lengths(lengths) => match factor_for(lengths, asked)? {
                1. => Held::Nothing,
                factor => Held::Stretched(factor),
            },
        })
    }

    /// Does that to a set of weights.
    ///
    /// # Errors
    /// If they are not the model's.
    pub fn apply(&self, held: Held, params: &ParamSet) -> Result<()> {
        match (self, held) {
            (Self::Foreground(foreground), Held::Lowered(fall)) => foreground.lower(params, fall),
            (Self::Lengths(lengths), Held::Stretched(factor)) => lengths.stretch(params, factor),
            _ => Ok(()),
        }
    }
}

/// By how much logits must fall for the drift not to lie below zero; 0 where it does not, or where only a fall that leaves
/// nothing to compare would do. The drift is taken to rise with the fall.
fn fall_for(foreground: &Foreground, asked: &Asked) -> Result<f64> {
    let at = |fall: f64| asked.once(|maps| foreground.lowered(maps, fall));
    let first = at(0.)?;
    if first.is_nan() || first >= -TOLERANCE {
        return Ok(0.);
    }
    let (most, precision) = FALL;
    // Where no cell is left to compare, the drift is no number: too far.
    let (_, enough) = narrowed((0., most), precision, |fall| Ok(at(fall)? < 0.))?;
    // Cells that all vanish at once are not held to their size.
    let left = !at(enough)?.is_nan();
    Ok(if left { enough } else { 0. })
}

/// The factor on lengths for which the drift is 0; 1 where it is already, or where none does within a factor of 2. The drift is
/// taken to fall as lengths grow.
fn factor_for(lengths: &Lengths, asked: &Asked) -> Result<f64> {
    let at = |growth: f64| asked.once(|maps| lengths.grown(maps, growth.exp()));
    let first = at(0.)?;
    if first.is_nan() || first.abs() <= TOLERANCE {
        return Ok(1.);
    }
    let (most, precision) = GROWTH;
    // At one end lengths are too short, at the other too long.
    let (ends, far) = match first > 0. {
        true => ((0., most), at(most)?),
        false => ((-most, 0.), -at(-most)?),
    };
    if far.is_nan() || far > 0. {
        return Ok(1.);
    }
    let (short, long) = narrowed(ends, precision, |growth| Ok(at(growth)? > 0.))?;
    Ok((0.5 * (short + long)).exp())
}

/// Halves an interval until it is no longer than `precision`: what is sought lies further where `further` says so of the middle.
fn narrowed(
    (mut from, mut to): (f64, f64),
    precision: f64,
    further: impl Fn(f64) -> Result<bool>,
) -> Result<(f64, f64)> {
    while to - from > precision {
        let middle = 0.5 * (from + to);
        if further(middle)? {
            from = middle;
        } else {
            to = middle;
        }
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreground::fixtures::{Above, FOREGROUND, square};

    const SIDE: usize = 41;

    /// A cone of logits that is above 0 within `radius` of the middle.
    fn cone(radius: f64) -> Prediction {
        let middle = (SIDE / 2) as f64;
        square(SIDE, |y, x| {
            radius - (y as f64 - middle).hypot(x as f64 - middle)
        })
    }

    fn area(instances: &[Labels]) -> f64 {
        let of = |labels: &Labels| labels.pixels().iter().filter(|&&label| label > 0).count();
        instances.iter().map(of).sum::<usize>() as f64
    }

    /// Asks about the maps of now: the logarithm of the ratio of areas, as `shrinkage` has it; no number where nothing is left.
    fn asked<T>(
        decoder: &dyn InstanceDecoder,
        side: usize,
        [before, now]: [Prediction; 2],
        find: impl FnOnce(&Asked) -> Result<T>,
    ) -> T {
        let size = (side, side);
        let first = area(&[decoder.decode(&before, size).unwrap()]);
        let drift = |instances: Vec<Labels>| match area(&instances) {
            0. => f64::NAN,
            left => (first / left).ln(),
        };
        let asked = Asked {
            maps: &[now],
            size,
            decoder,
            drift: &drift,
        };
        find(&asked).unwrap()
    }

    fn fall(before: f64, now: f64) -> f64 {
        let maps = [before, now].map(cone);
        asked(&Above, SIDE, maps, |asked| fall_for(&FOREGROUND, asked))
    }

    #[test]
    fn logits_fall_until_cells_are_no_larger_than_they_were() {
        let by = fall(8., 10.);
        assert!((by - 2.).abs() < 0.3, "{by}");
        assert!(fall(8., 8. + by) >= by - 2. * FALL.1);
        assert_eq!(fall(8., 8.), 0.);
        assert_eq!(fall(8., 7.), 0., "cells that shrink are another matter");
        assert_eq!(fall(2., 19.), FALL.0, "there is an end to it");
    }

    #[test]
    fn cells_that_would_all_vanish_are_left_alone() {
        let flat = [square(SIDE, |_, _| 0.5)];
        let drift = |instances: Vec<Labels>| match area(&instances) {
            0. => f64::NAN,
            _ => -1.,
        };
        let asked = Asked {
            maps: &flat,
            size: (SIDE, SIDE),
            decoder: &Above,
            drift: &drift,
        };
        assert_eq!(fall_for(&FOREGROUND, &asked).unwrap(), 0.);
    }

    const WIDE: usize = 65;
    const LENGTHS: Lengths = Lengths {
        head: 0,
        weights: &[],
    };

    /// A disc around the middle whose radius is the map's first number.
    struct Disc;

    impl InstanceDecoder for Disc {
        fn decode(&self, maps: &Prediction, (height, width): (usize, usize)) -> Result<Labels> {
            let radius = f64::from(maps.heads[0].flatten_all()?.to_vec1::<f32>()?[0]);
            let middle = (WIDE / 2) as f64;
            let inside = |i: usize| {
                ((i / width) as f64 - middle).hypot((i % width) as f64 - middle) < radius
            };
            let pixels = (0..height * width).map(|i| u32::from(inside(i)));
            Labels::from_rows(height, width, pixels.collect())
        }
    }

    fn factor(before: f64, now: f64) -> f64 {
        let maps = [before, now].map(|radius| square(WIDE, |_, _| radius));
        asked(&Disc, WIDE, maps, |asked| factor_for(&LENGTHS, asked))
    }

    #[test]
    fn lengths_grow_or_shrink_until_objects_have_the_size_that_they_had() {
        assert!((factor(20., 16.) - 1.25).abs() < 0.02);
        assert!((factor(16., 20.) - 0.8).abs() < 0.02);
        assert_eq!(factor(16., 16.), 1.);
    }

    #[test]
    fn what_no_factor_mends_is_left_alone() {
        assert_eq!(factor(20., 4.), 1., "too far");
        assert_eq!(factor(20., 0.), 1., "nothing to compare");
    }
}
