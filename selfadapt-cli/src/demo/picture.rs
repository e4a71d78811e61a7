//! One picture for the eye: the same image with the outlines of its labels, and of what was found before and after.

use std::path::Path;

use image::{Rgb, RgbImage, imageops};
use selfadapt_core::error::Result;
use selfadapt_core::io::overlay::{ORANGE, SKY_BLUE, Style, draw_outlines, picture};
use selfadapt_core::io::{self, Axes, outputs, png};

/// Picture pixels a pixel.
const ZOOM: u32 = 2;
/// White between the panels.
const GAP: u32 = 8;

/// Draws the first image of `held_out`: its labels in blue, then in orange the masks of each folder of `found`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write(path: &Path, held_out: &Path, found: &[&Path]) -> Result<()> {
    let images = io::inputs(&[held_out], &[])?.images;
    let Some(first) = images.first() else {
        return Ok(());
    };
    let (image, _) = io::read(first, &Axes::default())?;
    let plain = picture(&image, ZOOM)?;
    let truth = (outputs::path(first, None, "_masks.tif"), SKY_BLUE);
    let masks = found
        .iter()
        .map(|folder| (outputs::path(first, Some(*folder), "_cp_masks.tif"), ORANGE));
    let mut panels = Vec::new();
    for (labels, colour) in std::iter::once(truth).chain(masks) {
        let mut panel = plain.clone();
        let style = Style { colour, zoom: ZOOM };
        draw_outlines(&mut panel, &io::read_labels(labels)?, &style)?;
        panels.push(panel);
    }
    let count = panels.len() as u32;
    let width = count * plain.width() + (count - 1) * GAP;
    let mut all = RgbImage::from_pixel(width, plain.height(), Rgb([255; 3]));
    for (panel, number) in panels.iter().zip(0..) {
        let left = number * (plain.width() + GAP);
        imageops::replace(&mut all, panel, i64::from(left), 0);
    }
    png::write_rgb(path, &all)
}
