//! Draws microscopy images with their labels: a set that the small model was trained on, and one that it was not.

mod light;
mod scene;
mod texture;

use ndarray::{Array2, Array3};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use selfadapt_core::labels::Labels;
use serde::Deserialize;

/// An image of two channels (cytoplasm, nuclei) `[2, side, side]` as a camera counts it, and its cells.
pub struct Drawn {
    pub image: Array3<u16>,
    pub labels: Labels,
}

/// What sets one microscope, stain and kind of cell apart from another. Lengths are in pixels.
///
/// What a file leaves out is as in [`Domain::SHIFTED`].
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domain {
    /// Mean diameter of a cell.
    pub diameter: f32,
    /// Standard deviation of the logarithm of a cell's size.
    pub size_spread: f32,
    /// How far outlines depart from discs.
    pub unevenness: f32,
    /// How far borders stray.
    pub roughness: f32,
    /// Colonies in an image.
    pub colonies: usize,
    /// Share of cells that lie in colonies.
    pub in_colonies: f32,
    /// Least distance of two cells' centres, as a share of the sum of their radii.
    pub packing: f32,
    /// Tries to place a cell, a thousandth of a pixel each.
    pub crowding: f32,
    /// Radius of a nucleus as a share of its cell's.
    pub nucleus: f32,
    /// Standard deviation of the logarithm of a cell's brightness.
    pub brightness_spread: f32,
    /// Light from between the cells, as a share of a cell's.
    pub background: f32,
    /// How much thicker, so brighter, a cell is in its middle: 0 flat, 1 a ball.
    pub roundness: f32,
    /// Strength of the cytoplasm's texture.
    pub texture: f32,
    /// Scale of that texture.
    pub grain: f32,
    /// How much brighter the cell's border is.
    pub membrane: f32,
    /// Bright granules in a cell.
    pub granules: f32,
    /// How much the nucleus is spared by the cytoplasm's stain.
    pub spared: f32,
    /// Share of the cytoplasm's light that leaks into the nuclear channel.
    pub leak: f32,
    /// Bright specks that are no cells, in an image.
    pub specks: usize,
    /// How much darker the image is at its far corner.
    pub vignette: f32,
    /// Standard deviation of the point spread.
    pub blur: f32,
    /// Share of the light that is spread over ten times that.
    pub haze: f32,
    /// Photons that a pixel of mean brightness sends.
    pub photons: f32,
    /// Standard deviation of the camera's own noise, in photons.
    pub read_noise: f32,
}

impl Default for Domain {
    fn default() -> Self {
        Self::SHIFTED
    }
}

impl Domain {
    /// What the small model was trained on: flat, evenly stained cells, sharp and bright.
    pub const SOURCE: Self = Self {
        diameter: 30.,
        size_spread: 0.14,
        unevenness: 0.22,
        roughness: 1.2,
        colonies: 3,
        in_colonies: 0.7,
        packing: 0.8,
        crowding: 6.,
        nucleus: 0.45,
        brightness_spread: 0.25,
        background: 0.12,
        roundness: 0.5,
        texture: 0.15,
        grain: 6.,
        membrane: 0.25,
        granules: 0.,
        spared: 0.35,
        leak: 0.05,
        specks: 1,
        vignette: 0.2,
        blur: 1.0,
        haze: 0.08,
        photons: 120.,
        read_noise: 3.,
    };

    /// Another stain, another microscope: granular cells of very different brightness under uneven light, blurred and
    /// dim.
    pub const SHIFTED: Self = Self {
        diameter: 34.,
        size_spread: 0.2,
        unevenness: 0.34,
        colonies: 2,
        brightness_spread: 0.55,
        background: 0.35,
        roundness: 0.9,
        texture: 0.35,
        grain: 9.,
        membrane: 0.,
        granules: 9.,
        spared: 0.1,
        leak: 0.2,
        specks: 5,
        vignette: 0.55,
        blur: 1.8,
        haze: 0.25,
        photons: 30.,
        read_noise: 4.,
        ..Self::SOURCE
    };

    /// How often a cell is tried to be placed in an image of `side` pixels.
    fn trials(&self, side: f32) -> usize {
        (self.crowding * side * side / 1000.) as usize
    }
}

/// Draws image number `index` of a set.
pub fn draw(domain: &Domain, side: usize, seed: u64, index: usize) -> Drawn {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index as u64);
    let scene = scene::draw(domain, side, &mut rng);
    let image = light::photograph(domain, &scene, &mut rng);
    let labels: Array2<u32> = scene.labels;
    Drawn {
        image,
        labels: Labels::new(labels),
    }
}
