//! A pair as pictures: the image, and the image with the outlines of what was found and of what is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::overlay::{ORANGE, SKY_BLUE, Style, draw_outlines, picture};
use selfadapt_core::io::{self, Axes, png};

use super::pairs::Pair;
use crate::failure::Failure;

/// Where pictures go, and the images that they are of.
pub struct Pictures {
    folder: PathBuf,
    images: BTreeMap<String, PathBuf>,
}

impl Pictures {
    /// Looks for images beside the ground truth.
    ///
    /// # Errors
    /// If there is none, or the folder cannot be made.
    pub fn new(folder: &Path, truth: &Path) -> std::result::Result<Self, Failure> {
        let found = io::inputs(&[truth], &[]).map_err(|reason| {
            Failure::new(
                format!("--pictures: no images to draw on: {reason}"),
                "the image of <stem>_masks.tif is <stem>.tif (or another kind of image) in the same folder",
            )
        })?;
        std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
        let stem = |path: &PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
        let images = found.images.into_iter();
        Ok(Self {
            folder: folder.to_owned(),
            images: images
                .filter_map(|path| Some((stem(&path)?, path)))
                .collect(),
        })
    }

    /// Writes <stem>_image.png, <stem>_pred.png (orange) and <stem>_truth.png (blue).
    ///
    /// # Errors
    /// If the image is not there, or a file cannot be read or written.
    pub fn write(&self, pair: &Pair) -> Result<()> {
        let image = self.images.get(&pair.stem).ok_or_else(|| {
            Error::read(
                &pair.truth,
                format!("expected the image {}.tif beside it, found none", pair.stem),
            )
        })?;
        let (image, _) = io::read(image, &Axes::default())?;
        let plain = picture(&image, 1)?;
        let file = |end: &str| self.folder.join(format!("{}_{end}.png", pair.stem));
        png::write_rgb(file("image"), &plain)?;
        for (end, labels, colour) in [
            ("pred", &pair.prediction, ORANGE),
            ("truth", &pair.truth, SKY_BLUE),
        ] {
            let mut drawn = plain.clone();
            let style = Style { colour, zoom: 1 };
            draw_outlines(&mut drawn, &io::read_labels(labels)?, &style)?;
            png::write_rgb(file(end), &drawn)?;
        }
        Ok(())
    }
}
