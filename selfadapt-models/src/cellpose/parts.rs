//! Preparing an image that does not fit into memory: the same numbers as `prepare` gives of the whole.

use ndarray::{Array2, Array3};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::normalise::{percentile, stretch};
use selfadapt_core::parts::{ImageParts, PreparedParts, Resized};

use super::CellposeConfig;
use super::prepare::{choose, lattice, scaled};

/// Rows that are read at once while intensities are gathered.
const BAND: usize = 128;

/// What normalising does to a channel.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Normalised {
    /// A channel of one value stays as it is.
    Kept,
    /// One with hardly any range becomes zero.
    Emptied,
    Stretched {
        low: f32,
        high: f32,
    },
}

/// Reads the image once; see `prepare` for what is done.
///
/// # Errors
/// If the image lacks a channel, holds a number that is not finite, or cannot be read.
pub(super) fn prepare<'a>(
    config: &CellposeConfig,
    image: &'a mut dyn ImageParts,
    scale: f64,
) -> Result<Box<dyn PreparedParts + 'a>> {
    config.check()?;
    let size = scaled(image.size(), scale)?;
    let ranges = ranges(config, image)?;
    let (chosen, invert) = (config.channels, config.invert);
    let channels = move |pixels: Array3<f32>| {
        let mut channels = choose(chosen, pixels.view())?;
        for (channel, range) in channels.iter_mut().zip(&ranges) {
            range.apply(channel, invert);
        }
        Ok(channels)
    };
    Ok(Box::new(Resized {
        image,
        size,
        inputs: config.nbase[0],
        channels,
    }))
}

/// The extremes of a channel, and the pixels that its percentiles are read from.
#[derive(Clone)]
struct Gathered {
    least: f32,
    most: f32,
    sample: Vec<f32>,
}

fn ranges(config: &CellposeConfig, image: &mut dyn ImageParts) -> Result<Vec<Normalised>> {
    let (height, width) = image.size();
    let (down, across) = lattice((height, width));
    let mut gathered: Vec<Gathered> = Vec::new();
    for top in (0..height).step_by(BAND) {
        let band = top..(top + BAND).min(height);
        let chosen = choose(config.channels, image.read(band, 0..width)?.view())?;
        gathered.resize(
            chosen.len(),
            Gathered {
                least: f32::INFINITY,
                most: f32::NEG_INFINITY,
                sample: Vec::new(),
            },
        );
        for (gathered, channel) in gathered.iter_mut().zip(&chosen) {
            for ((y, x), &value) in channel.indexed_iter() {
                if !value.is_finite() {
                    return Err(Error::Image(format!(
                        "expected finite numbers, found {value} at row {}, column {x}",
                        top + y
                    )));
                }
                gathered.least = gathered.least.min(value);
                gathered.most = gathered.most.max(value);
            }
            for (y, row) in channel.rows().into_iter().enumerate() {
                if (top + y).is_multiple_of(down) {
                    let pixels = row.into_iter().step_by(across);
                    gathered.sample.extend(pixels.copied());
                }
            }
        }
    }
    let range = |mut channel: Gathered| {
        if channel.most - channel.least <= 0. {
            return Normalised::Kept;
        }
        let [low, high] = config
            .percentiles
            .map(|percent| percentile(&mut channel.sample, percent));
        if high - low > 1e-3 {
            Normalised::Stretched { low, high }
        } else {
            Normalised::Emptied
        }
    };
    Ok(gathered.into_iter().map(range).collect())
}

impl Normalised {
    fn apply(self, channel: &mut Array2<f32>, invert: bool) {
        match self {
            Self::Kept => return,
            Self::Emptied => channel.fill(0.),
            Self::Stretched { low, high } => {
                for mut row in channel.rows_mut() {
                    if let Some(values) = row.as_slice_mut() {
                        stretch(values, low, high);
                    }
                }
            }
        }
        if invert {
            channel.mapv_inplace(|value| 1. - value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::image::{Image, PixelType};
    use selfadapt_core::io::Whole;

    #[test]
    fn parts_are_those_of_the_prepared_whole() {
        let value = |(c, y, x)| ((y * 83 + x * 7 + c * 29) * 37 % 1013) as f32;
        let pixels = Array3::from_shape_fn((3, 301, 257), value);
        let image = Image::new(pixels, PixelType::U16).unwrap();
        let usual = CellposeConfig::default();
        for (channels, invert, scale) in [
            ([0, 0], false, 1.),
            ([2, 1], true, 1.7),
            ([3, 0], false, 0.6),
        ] {
            let config = CellposeConfig {
                channels,
                invert,
                ..usual.clone()
            };
            let whole = super::super::prepare::prepare(&config, &image, scale)
                .unwrap()
                .to_vec3::<f32>()
                .unwrap();
            let mut source = Whole(image.clone());
            let mut parts = prepare(&config, &mut source, scale).unwrap();
            let (height, width) = parts.size();
            assert_eq!((height, width), (whole[0].len(), whole[0][0].len()));
            for (rows, columns) in [
                (0..height, 0..width),
                (5..60, 0..width),
                (height - 9..height, 3..8),
            ] {
                let part = parts.read(rows.clone(), columns.clone()).unwrap();
                for ((c, y, x), &found) in part.indexed_iter() {
                    assert_eq!(found, whole[c][rows.start + y][columns.start + x]);
                }
            }
        }
    }

    #[test]
    fn what_the_whole_refuses_is_refused() {
        let mut pixels = Array3::zeros((1, 200, 10));
        pixels[[0, 150, 3]] = f32::NAN;
        let mut holed = Whole(Image::new(pixels, PixelType::Float).unwrap());
        let error = prepare(&CellposeConfig::default(), &mut holed, 1.)
            .err()
            .unwrap();
        assert!(
            error.to_string().contains("NaN at row 150, column 3"),
            "{error}"
        );
        // A single value stays; one without range is emptied.
        let flat = Image::new(Array3::from_elem((1, 20, 10), 5.), PixelType::U8).unwrap();
        let mut flat = Whole(flat);
        let mut parts = prepare(&CellposeConfig::default(), &mut flat, 1.).unwrap();
        assert_eq!(parts.read(3..4, 0..10).unwrap()[[0, 0, 9]], 5.);
    }
}
