//! Where the outlines lie: a model may draw cells too wide for images that it does not know; the images themselves say where a
//! cell ends, by changing most there. In what the teacher labels, each cell's logits are lowered until its outline lies on an
//! edge; the student learns that, and once outlines lie on edges nothing falls any more.

mod edges;
mod fitting;
mod levels;
mod surroundings;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::diameter::median;
use crate::error::{Error, Result};
use crate::foreground::Foreground;
use crate::labels::Labels;
use crate::maps::Prediction;
use crate::model::InstanceDecoder;
use edges::planes;
pub(crate) use edges::{edges, sharpness};
pub(crate) use fitting::Fitting;
use levels::{Crop, Level};
use surroundings::Surroundings;

/// How outlines are compared with the edges in the images, and fitted to them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Outlines {
    /// Whether the teacher's labels are fitted; otherwise a run says where outlines look too wide.
    pub fit: bool,
    /// The most by which the logits of a cell are lowered, 0 not to look at outlines at all.
    pub most: f64,
    /// Of the sharpness that could be won, the share that is enough, in `[0, 1]`: the smallest fall that wins it is taken.
    pub enough: f64,
    /// How much like the background a rim must look to be taken off a cell: 1 is the background itself, 0 is as far from it as
    /// the middle of the cell.
    pub beyond: f64,
}

impl Default for Outlines {
    fn default() -> Self {
        Self {
            fit: false,
            most: 3.,
            enough: 0.9,
            beyond: 0.6,
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

    /// Checks the settings.
    ///
    /// # Errors
    /// If `enough` or `beyond` lies outside `[0, 1]`, `most` is not from 0 to 16, or outlines are to be fitted by nothing.
    pub fn check(&self) -> Result<()> {
        for (name, value, most) in [
            ("most", self.most, 16.),
            ("enough", self.enough, 1.),
            ("beyond", self.beyond, 1.),
        ] {
            if !(0. ..=most).contains(&value) {
                return Err(Error::Setting(format!(
                    "adapt.outlines.{name}: expected 0 to {most}, found {value}"
                )));
            }
        }
        if self.fit && self.most == 0. {
            return Err(Error::Setting(
                "adapt.outlines.most: expected above 0 where outlines are fitted, found 0".into(),
            ));
        }
        Ok(())
    }
}

/// The background around a cell is looked for within this share of its diameter.
const REACH: f64 = 1. / 4.;

/// How outlines lie on images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// Cells that were looked at.
    pub cells: usize,
    /// Of them, those whose outlines lie on sharper edges where they are drawn tighter.
    pub wide: usize,
    /// By how much their logits are to fall: the median.
    pub fall: f64,
    /// How much more the image changes along their outlines then: the median of the logarithm of the ratio.
    pub sharper: f64,
}

impl Outlines {
    /// Looks at the outlines in `crops` `[N, C, H, W]` that `decoder` draws from `maps` of them, one entry a crop.
    ///
    /// # Errors
    /// If the maps do not fit the decoder or the crops, or have no such head.
    pub fn look(
        &self,
        foreground: &Foreground,
        crops: &Tensor,
        maps: &[Prediction],
        decoder: &dyn InstanceDecoder,
    ) -> Result<Fit> {
        let found = self.find(foreground, crops, maps, decoder)?;
        let all = found.iter().flat_map(|found| &found.levels);
        let (cells, wide): (_, Vec<Level>) =
            (all.clone().count(), all.flatten().copied().collect());
        let middle = |of: fn(&Level) -> f64| {
            let middle = median(&mut wide.iter().map(of).collect::<Vec<_>>());
            if middle.is_nan() { 0. } else { middle }
        };
        Ok(Fit {
            cells,
            wide: wide.len(),
            fall: middle(|level| level.fall),
            sharper: middle(|level| level.sharper),
        })
    }

    /// The level that fits each cell of each crop.
    fn find(
        &self,
        foreground: &Foreground,
        crops: &Tensor,
        maps: &[Prediction],
        decoder: &dyn InstanceDecoder,
    ) -> Result<Vec<Found>> {
        let (_, _, height, width) = crops.dims4()?;
        let drawn = maps.iter();
        let drawn = drawn.map(|maps| decoder.decode(maps, (height, width)));
        let drawn = drawn.collect::<Result<Vec<_>>>()?;
        let diameter = median(&mut drawn.iter().flat_map(Labels::diameters).collect::<Vec<_>>());
        // Of no cells it is no number, and nothing follows from it.
        let reach = (REACH * diameter).round().max(2.) as u32;
        let mut all = Vec::new();
        for (index, (labels, maps)) in drawn.into_iter().zip(maps).enumerate() {
            let crop = crops.get(index)?;
            let surroundings = Surroundings::of(&labels, reach);
            let logits = foreground.logits(maps)?.flatten_all()?.to_vec1::<f32>()?;
            if logits.len() != labels.as_slice().len() {
                return Err(Error::Setting(format!(
                    "outlines: expected a logit for each of {height} x {width} pixels, found {}",
                    logits.len()
                )));
            }
            let crop = Crop {
                planes: &planes(&crop)?,
                edges: &edges(&crop)?,
                logits: &logits,
                labels: &labels,
                surroundings: &surroundings,
            };
            all.push(Found {
                levels: self.levels(&crop),
                surroundings,
            });
        }
        Ok(all)
    }
}

/// What was found in a crop.
struct Found {
    levels: Vec<Option<Level>>,
    surroundings: Surroundings,
}

impl Found {
    /// By how much logits fall where the pixels are an object's; 0 is no object.
    fn fall(&self, owner: u32) -> f64 {
        let level = (owner as usize)
            .checked_sub(1)
            .and_then(|of| self.levels[of]);
        level.map_or(0., |level| level.fall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::foreground::fixtures::{Above, FOREGROUND, square};
    use crate::maps::PseudoLabel;

    const SIDE: usize = 64;

    fn distance(y: usize, x: usize, middle: f64) -> f64 {
        (y as f64 - 32.).hypot(x as f64 - middle)
    }

    /// Two discs in a crop `[1, 1, SIDE, SIDE]`, one in each half.
    fn discs(left: f64, right: f64) -> Tensor {
        let bright = |y, x| distance(y, x, 16.) < left || distance(y, x, 48.) < right;
        square(SIDE, |y, x| f64::from(u8::from(bright(y, x)))).embedding
    }

    /// Cones of logits, a quarter of a logit a pixel, above 0 within these radii of the discs' middles.
    fn cones(left: f64, right: f64) -> Prediction {
        square(SIDE, |y, x| {
            0.25 * (left - distance(y, x, 16.)).max(right - distance(y, x, 48.))
        })
    }

    fn look(crop: &Tensor, maps: Prediction) -> Fit {
        let outlines = Outlines::default();
        outlines.look(&FOREGROUND, crop, &[maps], &Above).unwrap()
    }

    #[test]
    fn only_outlines_that_lie_beyond_the_edge_are_wide() {
        // Four pixels too large: a logit.
        let both = look(&discs(8., 8.), cones(12., 12.));
        assert_eq!((both.cells, both.wide), (2, 2));
        assert!((0.75..=1.).contains(&both.fall), "{both:?}");
        assert!(both.sharper > 0.5, "{both:?}");
        let one = look(&discs(8., 10.), cones(12., 10.));
        assert_eq!((one.cells, one.wide), (2, 1), "{one:?}");
        // Drawn too small, or where there is nothing to see: nothing says that tighter ones are better.
        assert_eq!(look(&discs(12., 12.), cones(8., 8.)).wide, 0);
        assert_eq!(look(&discs(0., 0.), cones(12., 12.)).wide, 0);
        assert_eq!(look(&discs(8., 8.), cones(-1., -1.)), Fit::default());
    }

    #[test]
    fn a_cell_keeps_a_rim_that_looks_like_the_cell() {
        // A sharp edge inside of a cell, as around a bright core, while the cell itself fades.
        let fading = square(SIDE, |y, x| match distance(y, x, 16.) {
            d if d < 9. => 1.6,
            d => (0.2 * (20. - d)).clamp(0., 1.2),
        });
        let look = |beyond: f64| {
            let outlines = Outlines {
                beyond,
                ..Outlines::default()
            };
            let maps = [cones(12., -1.)];
            outlines.look(&FOREGROUND, &fading.embedding, &maps, &Above)
        };
        assert_eq!(look(0.6).unwrap().wide, 0);
        let taken = look(0.).unwrap();
        assert!(taken.wide == 1 && taken.fall >= 0.5, "{taken:?}");
    }

    #[test]
    fn a_membrane_stays_with_its_cell() {
        // Bright between 8 and 12, grey within: the sharpest edge is that of the membrane's inside.
        let cell = square(SIDE, |y, x| match distance(y, x, 16.) {
            d if d < 8. => 0.2,
            d if d < 12. => 3.,
            d => (1. - 0.2 * (d - 12.)).clamp(0., 1.),
        });
        assert_eq!(look(&cell.embedding, cones(13., -1.)).wide, 0);
    }

    #[test]
    fn labels_fall_around_the_cells_that_are_wide_and_nowhere_else() {
        let (crop, logits) = (discs(8., 10.), cones(12., 10.).embedding);
        let probability = candle_nn::ops::sigmoid(&logits).unwrap();
        let label = PseudoLabel {
            mean: vec![probability.clone()],
            spread: vec![probability.zeros_like().unwrap()],
        };
        let fitting = Fitting {
            outlines: Outlines::default(),
            foreground: FOREGROUND,
            decoder: Box::new(Above),
        };
        let fitted = fitting.fit(&crop, label).unwrap();
        let at = |map: &Tensor, y: usize, x: usize| {
            let pixel = map.get(0).unwrap().get(0).unwrap().get(y).unwrap();
            f64::from(pixel.get(x).unwrap().to_scalar::<f32>().unwrap())
        };
        let logit = |p: f64| (p / (1. - p)).ln();
        let fall = |y, x| logit(at(&probability, y, x)) - logit(at(&fitted.mean[0], y, x));
        let inside = fall(32, 16);
        assert!((0.75..=1.).contains(&inside), "{inside}");
        // Beside it, too: labels do not jump where the cell ended.
        assert!((fall(32, 2) - inside).abs() < 1e-3);
        assert!(fall(32, 48).abs() < 1e-3 && fall(32, 60).abs() < 1e-3);
        assert!(fall(2, 2).abs() < 1e-3, "out of reach");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_by_name() {
        for (wrong, name) in [
            (
                Outlines {
                    most: f64::NAN,
                    ..Outlines::default()
                },
                "most",
            ),
            (
                Outlines {
                    enough: 1.5,
                    ..Outlines::default()
                },
                "enough",
            ),
            (
                Outlines {
                    beyond: -0.1,
                    ..Outlines::default()
                },
                "beyond",
            ),
            (
                Outlines {
                    fit: true,
                    ..Outlines::off()
                },
                "most",
            ),
        ] {
            let message = wrong.check().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        assert!(Outlines::off().check().is_ok());
    }
}
