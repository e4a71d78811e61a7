//! Preparing an image that does not fit into memory: the same numbers as `prepare` gives of the whole.

use std::ops::Range;

use ndarray::{Array3, ArrayView2};
use selfadapt_core::error::Result;
use selfadapt_core::parts::{ImageParts, PreparedParts};
use selfadapt_core::percentiles::{FirstPass, SecondPass};

use super::StarDistConfig;
use super::prepare::{Stretch, check_finite, choose, mirrored, scaled_size, taps, zoomed};

/// Rows that are read at once while intensities are gathered.
const BAND: usize = 128;

/// An image of which the intensities are known.
struct StarDistParts<'a> {
    config: StarDistConfig,
    image: &'a mut dyn ImageParts,
    /// `(height, width)` of the working image, before it is mirrored at its ends.
    size: (usize, usize),
    /// For each channel.
    stretches: Vec<Stretch>,
}

/// Reads the image twice; see `prepare` for what is done.
///
/// # Errors
/// As `prepare`, and if the file cannot be read.
pub(super) fn prepare<'a>(
    config: &StarDistConfig,
    image: &'a mut dyn ImageParts,
    scale: f64,
) -> Result<Box<dyn PreparedParts + 'a>> {
    config.check()?;
    let size = scaled_size(image.size(), scale, config)?;
    Ok(Box::new(StarDistParts {
        stretches: stretches(config, image)?,
        config: config.clone(),
        image,
        size,
    }))
}

/// The percentiles of each channel, or of all together, exactly.
fn stretches(config: &StarDistConfig, image: &mut dyn ImageParts) -> Result<Vec<Stretch>> {
    let channels = config.n_channel_in;
    // Channels that are normalised together are counted together.
    let group = |channel: usize| match config.normalise_jointly {
        true => 0,
        false => channel,
    };
    let groups = group(channels - 1) + 1;
    let mut counted = vec![FirstPass::default(); groups];
    let mut extremes = vec![(f32::INFINITY, f32::NEG_INFINITY); groups];
    bands(config, image, &mut |top, pixels| {
        check_finite(pixels.view(), top)?;
        for (channel, values) in pixels.outer_iter().enumerate() {
            let (least, most) = &mut extremes[group(channel)];
            for &value in values {
                *least = least.min(value);
                *most = most.max(value);
            }
            counted[group(channel)].add(values.iter().copied());
        }
        Ok(())
    })?;
    let mut again: Vec<SecondPass> = counted
        .into_iter()
        .map(|counted| counted.then(&config.percentiles))
        .collect();
    bands(config, image, &mut |_, pixels| {
        for (channel, values) in pixels.outer_iter().enumerate() {
            again[group(channel)].add(values.iter().copied());
        }
        Ok(())
    })?;
    let mut found = Vec::with_capacity(channels);
    for channel in 0..channels {
        let limits = again[group(channel)].percentiles();
        let (least, most) = extremes[group(channel)];
        found.push(Stretch::between(
            config,
            [limits[0], limits[1]],
            least == most,
        )?);
    }
    Ok(found)
}

/// The network's channels of the whole image, some rows at a time.
fn bands(
    config: &StarDistConfig,
    image: &mut dyn ImageParts,
    each: &mut dyn FnMut(usize, Array3<f32>) -> Result<()>,
) -> Result<()> {
    let (height, width) = image.size();
    for top in (0..height).step_by(BAND) {
        let pixels = image.read(top..(top + BAND).min(height), 0..width)?;
        each(top, choose(config, pixels.view())?)?;
    }
    Ok(())
}

/// What a part of an axis is made from.
struct Axis {
    /// The pixels of the file.
    source: Range<usize>,
    /// For each working pixel from the first that is needed on, between which two of these it lies.
    taps: Vec<(usize, usize, f64)>,
    /// For each pixel that is wanted, which working pixel it is.
    places: Vec<usize>,
}

impl Axis {
    /// `from` pixels of the file are resized to `to`, mirrored at the end, and these are wanted.
    fn new(from: usize, to: usize, wanted: Range<usize>) -> Self {
        let at: Vec<usize> = wanted.map(|at| mirrored(at, to)).collect();
        let first = at.iter().copied().min().unwrap_or(0);
        let end = at.iter().max().map_or(first, |last| last + 1);
        let mut taps = taps(from, to, first..end);
        let start = taps.first().map_or(0, |tap| tap.0);
        let source = start..taps.last().map_or(start, |tap| tap.1 + 1);
        for tap in &mut taps {
            tap.0 -= start;
            tap.1 -= start;
        }
        Self {
            source,
            taps,
            places: at.into_iter().map(|at| at - first).collect(),
        }
    }
}

impl PreparedParts for StarDistParts<'_> {
    fn size(&self) -> (usize, usize) {
        let divisor = self.config.divisor();
        (
            self.size.0.next_multiple_of(divisor),
            self.size.1.next_multiple_of(divisor),
        )
    }

    fn read(&mut self, rows: Range<usize>, columns: Range<usize>) -> Result<Array3<f32>> {
        let (height, width) = self.image.size();
        let rows = Axis::new(height, self.size.0, rows);
        let columns = Axis::new(width, self.size.1, columns);
        let pixels = self
            .image
            .read(rows.source.clone(), columns.source.clone())?;
        let mut pixels = choose(&self.config, pixels.view())?;
        let shape = (
            self.config.n_channel_in,
            rows.places.len(),
            columns.places.len(),
        );
        let mut prepared = Array3::zeros(shape);
        let channels = prepared.outer_iter_mut().zip(pixels.outer_iter_mut());
        for ((mut to, mut channel), stretch) in channels.zip(&self.stretches) {
            if let Some(values) = channel.as_slice_mut() {
                stretch.apply(values);
            }
            let scaled = zoomed(ArrayView2::from(&channel), &rows.taps, &columns.taps);
            for ((y, x), value) in to.indexed_iter_mut() {
                *value = scaled[[rows.places[y], columns.places[x]]];
            }
        }
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_core::image::{Image, PixelType};
    use selfadapt_core::io::Whole;

    #[test]
    fn parts_are_those_of_the_prepared_whole() {
        let value = |(c, y, x)| ((y * 83 + x * 7 + c * 29) * 37 % 1013) as f32 - 40.5;
        let pixels = Array3::from_shape_fn((3, 157, 203), value);
        let image = Image::new(pixels, PixelType::Float).unwrap();
        let usual = StarDistConfig::default();
        for (channels, normalise_jointly, scale) in [
            (vec![2], true, 1.),
            (vec![1, 2, 3], true, 1.7),
            (vec![3, 1], false, 0.6),
        ] {
            let config = StarDistConfig {
                n_channel_in: channels.len(),
                channels,
                normalise_jointly,
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
                (height - 9..height, width - 5..width),
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
        let config = StarDistConfig::default();
        let say = |pixels: Array3<f32>, kind| {
            let mut source = Whole(Image::new(pixels, kind).unwrap());
            let prepared = prepare(&config, &mut source, 1.);
            prepared.err().map(|error| error.to_string())
        };
        let mut pixels = Array3::zeros((1, 200, 10));
        assert_eq!(say(pixels.clone(), PixelType::U8), None);
        pixels[[0, 150, 3]] = 9.;
        let told = say(pixels.clone(), PixelType::U8).unwrap();
        assert!(told.contains("set other percentiles"), "{told}");
        pixels[[0, 150, 3]] = f32::NAN;
        let told = say(pixels, PixelType::Float).unwrap();
        assert!(
            told.contains("NaN in channel 1, row 150, column 3"),
            "{told}"
        );
    }
}
