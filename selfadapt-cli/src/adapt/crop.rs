//! How large the crops of a run are where nobody says it: as the model's are, or as the images where these are smaller.

use std::path::{Path, PathBuf};

use selfadapt_core::io::{self, Axes};
use selfadapt_core::model::ModelConfig;

use super::scale::spread;

/// Images that are looked at, evenly spread over a run's.
const IMAGES: usize = 16;

/// The model's own crop, but no more than the largest of some images fills at its working scale: what lies beyond
/// would be the image again, mirrored, which takes as long and teaches nothing. What cannot be read has no say here.
pub fn side(model: &dyn ModelConfig, scale: f64, paths: &[PathBuf], axes: &Axes) -> usize {
    let input = model.input();
    let divisor = input.divisor.max(1);
    let mut largest = 0;
    for path in spread(paths, IMAGES) {
        if let Some(pixels) = longer_side(path, axes) {
            let working = (pixels as f64 * scale).round() as usize;
            largest = largest.max(working.next_multiple_of(divisor).max(divisor));
        }
        // Mostly the first: formats without their size ahead are read for it.
        if largest >= input.crop {
            break;
        }
    }
    match largest {
        0 => input.crop,
        side => side.min(input.crop),
    }
}

fn longer_side(path: &Path, axes: &Axes) -> Option<usize> {
    let (height, width) = match io::size_in_parts(path, axes) {
        Ok(Some(size)) => size,
        Ok(None) => io::read(path, axes).ok()?.0.size(),
        Err(_) => return None,
    };
    Some(height.max(width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfadapt_models::cellpose::CellposeConfig;

    #[test]
    fn crops_are_the_models_unless_all_images_are_smaller() {
        let here = tempfile::tempdir().unwrap();
        let image = |name: &str, size: (usize, usize)| {
            let path = here.path().join(name);
            io::tiff::write_labels(&path, size, 60_000, &mut |_, _: &mut [u32]| Ok(())).unwrap();
            path
        };
        let (model, axes) = (CellposeConfig::default(), Axes::default());
        let own = model.input().crop;
        let small = image("small.tif", (90, 120));
        let large = image("large.tif", (20, 300));
        let of = |paths: &[PathBuf], scale: f64| side(&model, scale, paths, &axes);
        // The next multiple of 16.
        assert_eq!(of(std::slice::from_ref(&small), 1.), 128);
        assert_eq!(of(std::slice::from_ref(&small), 0.51), 64);
        assert_eq!(of(std::slice::from_ref(&small), 4.), own);
        assert_eq!(of(&[small.clone(), large], 1.), own);
        let damaged = here.path().join("damaged.tif");
        std::fs::write(&damaged, b"II*\0").unwrap();
        assert_eq!(of(std::slice::from_ref(&damaged), 1.), own);
        assert_eq!(of(&[damaged, small], 1.), 128);
    }
}
