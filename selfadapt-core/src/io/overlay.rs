//! Outlines drawn over an image, in colours that colour-blind readers can tell apart.

use image::{Rgb, RgbImage};
use imageproc::drawing::draw_line_segment_mut;

use super::outlines::outer_borders;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::labels::Labels;

/// Orange of Okabe and Ito's palette.
pub const ORANGE: [u8; 3] = [230, 159, 0];
/// Sky blue of Okabe and Ito's palette, for a second set of outlines.
pub const SKY_BLUE: [u8; 3] = [86, 180, 233];

/// How to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colour of the outlines, RGB.
    pub colour: [u8; 3],
    /// Side of a square that each pixel of the image becomes; outlines stay a pixel wide.
    pub zoom: u32,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            colour: ORANGE,
            zoom: 1,
        }
    }
}

/// Draws the image, each channel stretched from its 1st to its 99th percentile: one channel in gray, two in green and
/// magenta, of more the first three in red, green and blue.
///
/// # Errors
/// If `zoom` is 0 or the picture gets more than 2³² pixels.
pub fn picture(image: &Image, zoom: u32) -> Result<RgbImage> {
    let (height, width) = image.size();
    let side = |size: usize| {
        u32::try_from(size)
            .ok()
            .and_then(|size| size.checked_mul(zoom))
    };
    let (wide, high) = match (side(width), side(height)) {
        (Some(wide @ 1..), Some(high @ 1..)) if wide.checked_mul(high).is_some() => (wide, high),
        _ => {
            return Err(Error::Setting(format!(
                "a picture of {height} x {width} pixels enlarged {zoom} times cannot be drawn; \
                 choose a factor of 1 or more and a smaller image"
            )));
        }
    };
    let channels: Vec<_> = image
        .pixels()
        .into_outer_iter()
        .take(3)
        .map(|channel| {
            let (low, high) = percentiles(channel.iter().copied(), 0.01, 0.99);
            let scale = if high > low {
                255.0 / (high - low)
            } else {
                0.0
            };
            // NaN becomes 0.
            channel.mapv(|value| ((value - low) * scale) as u8)
        })
        .collect();
    Ok(RgbImage::from_fn(wide, high, |x, y| {
        let at = [(y / zoom) as usize, (x / zoom) as usize];
        Rgb(match channels.as_slice() {
            [gray] => [gray[at]; 3],
            [first, second] => [second[at], first[at], second[at]],
            [red, green, blue, ..] => [red[at], green[at], blue[at]],
            [] => [0; 3],
        })
    }))
}

/// Draws the outline of every object onto a picture that [`picture`] made with the same `zoom`.
///
/// # Errors
/// If the picture has not the size of the labels times `zoom`.
pub fn draw_outlines(picture: &mut RgbImage, labels: &Labels, style: &Style) -> Result<()> {
    let (height, width) = labels.size();
    let found = (picture.height() as usize, picture.width() as usize);
    let zoom = style.zoom as usize;
    if found != (height * zoom, width * zoom) {
        return Err(Error::Image(format!(
            "expected a picture of {} x {} for labels of {height} x {width}, found {} x {}",
            height * zoom,
            width * zoom,
            found.0,
            found.1
        )));
    }
    let centre = |point: &[u32; 2]| point.map(|at| (at * style.zoom + style.zoom / 2) as f32);
    for border in outer_borders(labels).iter().flatten() {
        let next = border.iter().cycle().skip(1);
        for ([x, y], [to_x, to_y]) in border.iter().map(centre).zip(next.map(centre)) {
            draw_line_segment_mut(picture, (x, y), (to_x, to_y), Rgb(style.colour));
        }
    }
    Ok(())
}

/// The image with the outlines of `labels`.
///
/// # Errors
/// As [`picture`] and [`draw_outlines`].
pub fn overlay(image: &Image, labels: &Labels, style: &Style) -> Result<RgbImage> {
    let mut picture = picture(image, style.zoom)?;
    draw_outlines(&mut picture, labels, style)?;
    Ok(picture)
}

/// Two quantiles (0..=1) by linear interpolation, as `np.percentile`; values that are not finite are left out. Of no
/// values both are 0.
pub(super) fn percentiles(values: impl Iterator<Item = f32>, low: f64, high: f64) -> (f32, f32) {
    let mut values: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    let Some(last) = values.len().checked_sub(1) else {
        return (0.0, 0.0);
    };
    let mut quantile = |q: f64| {
        let place = q * last as f64;
        let (_, &mut below, above) =
            values.select_nth_unstable_by(place.floor() as usize, f32::total_cmp);
        let above = above
            .iter()
            .copied()
            .min_by(f32::total_cmp)
            .unwrap_or(below);
        (f64::from(below) + (f64::from(above) - f64::from(below)) * place.fract()) as f32
    };
    (quantile(low), quantile(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::PixelType;
    use ndarray::Array3;

    fn ramp(channels: usize) -> Image {
        let pixels =
            Array3::from_shape_fn((channels, 6, 8), |(c, y, x)| (c * 1000 + y * 8 + x) as f32);
        Image::new(pixels, PixelType::U16).unwrap()
    }

    #[test]
    fn quantiles_interpolate() {
        // np.percentile([0, 10, 20, 40], [25, 90])
        let values = [40.0, 0.0, 20.0, f32::NAN, 10.0];
        assert_eq!(percentiles(values.into_iter(), 0.25, 0.9), (7.5, 34.0));
        assert_eq!(percentiles(std::iter::empty(), 0.1, 0.9), (0.0, 0.0));
    }

    #[test]
    fn outlines_cover_exactly_the_border() {
        let mut pixels = vec![0; 48];
        for y in 1..5 {
            for x in 2..6 {
                pixels[y * 8 + x] = 1;
            }
        }
        let labels = Labels::from_rows(6, 8, pixels).unwrap();
        for zoom in [1, 3] {
            let drawn = overlay(
                &ramp(1),
                &labels,
                &Style {
                    colour: ORANGE,
                    zoom,
                },
            )
            .unwrap();
            let plain = picture(&ramp(1), zoom).unwrap();
            let changed = drawn.pixels().filter(|pixel| pixel.0 == ORANGE).count();
            assert_eq!(changed, 12 * zoom as usize, "a square of 3 steps a side");
            assert_eq!(
                drawn.get_pixel(3 * zoom, 2 * zoom),
                plain.get_pixel(3 * zoom, 2 * zoom)
            );
        }
        let mut small = RgbImage::new(5, 5);
        assert!(draw_outlines(&mut small, &labels, &Style::default()).is_err());
        assert!(picture(&ramp(1), 0).is_err());
    }

    #[test]
    fn channels_get_their_colours() {
        let two = picture(&ramp(2), 1).unwrap();
        assert_eq!(two.get_pixel(7, 5).0, [255, 255, 255]);
        assert_eq!(two.get_pixel(0, 0).0, [0, 0, 0]);
        let constant = Image::new(Array3::from_elem((1, 2, 2), 7.0), PixelType::U8).unwrap();
        assert_eq!(picture(&constant, 1).unwrap().get_pixel(1, 1).0, [0, 0, 0]);
    }
}
