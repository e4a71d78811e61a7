//! Draws microscopy images with their labels: a set that the small model was trained on, and one that it was not.

mod light;
mod scene;
mod texture;

use ndarray::{Array2, Array3};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use selfadapt_core::error::{Error, Result};
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
    /// Tries to place a cell, in a thousand pixels.
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

    /// Refuses numbers that nothing can be drawn with.
    ///
    /// # Errors
    /// Names the first that is out of range.
    pub fn check(&self) -> Result<()> {
        let ranges = [
            ("diameter", self.diameter, 6., 200.),
            ("size_spread", self.size_spread, 0., 1.),
            ("unevenness", self.unevenness, 0., 0.45),
            ("roughness", self.roughness, 0., 10.),
            ("in_colonies", self.in_colonies, 0., 1.),
            ("packing", self.packing, 0.3, 3.),
            ("crowding", self.crowding, 0., 100.),
            ("nucleus", self.nucleus, 0.05, 0.8),
            ("brightness_spread", self.brightness_spread, 0., 2.),
            ("background", self.background, 0., 10.),
            ("roundness", self.roundness, 0., 1.),
            ("texture", self.texture, 0., 2.),
            ("grain", self.grain, 1., 100.),
            ("membrane", self.membrane, 0., 10.),
            ("granules", self.granules, 0., 100.),
            ("spared", self.spared, 0., 1.),
            ("leak", self.leak, 0., 1.),
            ("vignette", self.vignette, 0., 1.),
            ("blur", self.blur, 0., 10.),
            ("haze", self.haze, 0., 1.),
            ("photons", self.photons, 0.1, 10_000.),
            ("read_noise", self.read_noise, 0., 1_000.),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(Error::Setting(format!(
                    "{name}: expected {least} to {most}, found {value}"
                )));
            }
        }
        if self.colonies.max(self.specks) > 1000 {
            return Err(Error::Setting(format!(
                "colonies and specks: expected at most 1000, found {} and {}",
                self.colonies, self.specks
            )));
        }
        Ok(())
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_repeat_with_their_seed_and_number() {
        let drawn = |seed, index| draw(&Domain::SHIFTED, 96, seed, index).image;
        assert_eq!(drawn(3, 1), drawn(3, 1));
        assert_ne!(drawn(3, 1), drawn(3, 2));
        assert_ne!(drawn(3, 1), drawn(4, 1));
    }

    #[test]
    fn cells_are_many_touch_and_have_the_size_that_was_asked_for() {
        for domain in [Domain::SOURCE, Domain::SHIFTED] {
            let drawn = draw(&domain, 256, 0, 0);
            let labels = drawn.labels.pixels();
            let count = drawn.labels.count();
            assert!((30..120).contains(&count), "{count} cells");
            let touching = labels
                .windows([1, 2])
                .into_iter()
                .filter(|pair| {
                    let (left, right) = (pair[[0, 0]], pair[[0, 1]]);
                    left != right && left * right != 0
                })
                .count();
            assert!(touching > 50, "{touching} pixels of contact");
            let mut areas = drawn.labels.areas();
            areas.sort_unstable();
            let disc = std::f32::consts::PI * (domain.diameter / 2.).powi(2);
            let ratio = areas[count / 2] as f32 / disc;
            // Neighbours and the image's edge take something of a cell.
            assert!((0.5..1.2).contains(&ratio), "{ratio} of a disc");
            // The camera is neither blind nor blinded.
            let brightest = drawn.image.iter().max().copied().unwrap_or(0);
            assert!((300..65_535).contains(&brightest), "{brightest}");
        }
    }

    #[test]
    fn a_file_says_only_what_differs() {
        let domain: Domain = toml::from_str("blur = 2.5").unwrap();
        assert_eq!(
            domain,
            Domain {
                blur: 2.5,
                ..Domain::SHIFTED
            }
        );
        assert!(domain.check().is_ok() && Domain::SOURCE.check().is_ok());
        assert!(toml::from_str::<Domain>("blurr = 2.5").is_err());
        for (wrong, name) in [("diameter = 0.0", "diameter"), ("haze = nan", "haze")] {
            let domain: Domain = toml::from_str(wrong).unwrap();
            let message = domain.check().unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
    }
}
