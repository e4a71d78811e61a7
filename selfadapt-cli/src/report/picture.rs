//! Pictures and outlines as text that stands inside a page.

use base64::prelude::{BASE64_STANDARD, Engine};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use ndarray::{Array3, ArrayView3, Axis};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::image::{Image, PixelType};
use selfadapt_core::io::{outlines::Outline, overlay};

/// A prepared image `[C, H, W]` as a PNG in a `data:` address, stretched as overlays are; channels that the image lacks
/// (constant ones) are left out.
///
/// # Errors
/// If there is no pixel.
pub fn address(prepared: ArrayView3<f32>) -> Result<String> {
    let varies = |channel: &usize| {
        let mut values = prepared.index_axis(Axis(0), *channel).into_iter();
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let mut channels: Vec<usize> = (0..prepared.dim().0).filter(varies).collect();
    if channels.is_empty() {
        channels.push(0);
    }
    let pixels: Array3<f32> = prepared.select(Axis(0), &channels);
    let gray = channels.len() == 1;
    let picture = overlay::picture(&Image::new(pixels, PixelType::Float)?, 1)?;
    let mut png = Vec::new();
    let (bytes, colour) = if gray {
        let bytes = picture.pixels().map(|pixel| pixel.0[0]).collect();
        (bytes, ExtendedColorType::L8)
    } else {
        (picture.as_raw().clone(), ExtendedColorType::Rgb8)
    };
    PngEncoder::new(&mut png)
        .write_image(&bytes, picture.width(), picture.height(), colour)
        .map_err(|error| Error::Image(format!("a picture for the report: {error}")))?;
    Ok(format!(
        "data:image/png;base64,{}",
        BASE64_STANDARD.encode(&png)
    ))
}

/// An outline as `x,y,` and a digit a step to the next neighbour: 3 (dy + 1) + dx + 1. Empty of no points.
pub fn chain(outline: &Outline) -> String {
    let Some([x, y]) = outline.first() else {
        return String::new();
    };
    let mut text = format!("{x},{y},");
    for step in outline.windows(2) {
        let [from, to] = [step[0], step[1]];
        let towards = |axis: usize| 1 + i64::from(to[axis]) - i64::from(from[axis]);
        text.push_str(&(3 * towards(1) + towards(0)).to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(BASE64_STANDARD.encode(plain), coded);
        }
    }

    #[test]
    fn a_chain_names_each_neighbour_by_a_digit() {
        assert_eq!(chain(&vec![[5, 7], [6, 7], [6, 8], [5, 7]]), "5,7,570");
        assert_eq!(chain(&Vec::new()), "");
    }

    #[test]
    fn an_absent_channel_does_not_tint_the_picture() {
        let mut pixels = Array3::zeros((2, 4, 6));
        pixels[[0, 1, 2]] = 1.;
        let two = address(pixels.view()).unwrap();
        let one = address(pixels.index_axis(Axis(0), 0).insert_axis(Axis(0))).unwrap();
        assert_eq!(one, two);
        assert!(
            one.starts_with("data:image/png;base64,iVBORw0KGgo"),
            "{one}"
        );
    }
}
