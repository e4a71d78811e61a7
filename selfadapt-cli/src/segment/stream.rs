//! Images too large for memory: segmented part by part, one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::infer::stream::{self, LabelSheet, StreamOptions};
use selfadapt_core::io::{self, Axes, Renumbering, Sheet};

use super::outputs::Saves;
use super::pipeline::{Done, Run, Scaling, Seconds, diameter};
use super::plan::Plan;
use crate::console;

/// Pixels above which an image is large: 8192 x 8192.
const ABOVE: usize = 1 << 26;

/// Side of a block's core, in pixels.
const CORE: usize = 1024;

/// The least overlap of blocks in pixels, and how many diameters it has where that is more.
const OVERLAP: usize = 128;
const DIAMETERS: f64 = 4.;

/// Whether an image is too large to be taken as a whole. What cannot be opened is not: reading it will say why.
pub fn is_large(path: &Path, axes: &Axes) -> bool {
    matches!(
        io::size_in_parts(path, axes),
        Ok(Some((height, width))) if height.saturating_mul(width) > ABOVE
    )
}

/// When images are gone through in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// TIFF and OME-Zarr images of more than 67 million pixels
    #[default]
    Auto,
    Always,
    Never,
}

/// Which images are gone through in parts, and how.
#[derive(Clone, Copy, Debug)]
pub struct Streaming {
    pub when: When,
    /// Overlap of blocks in pixels, if the user chose one.
    pub overlap: Option<usize>,
}

impl Streaming {
    /// Whether this image is.
    pub fn takes(&self, path: &Path, axes: &Axes) -> bool {
        match self.when {
            When::Always => true,
            When::Never => false,
            When::Auto => is_large(path, axes),
        }
    }

    /// The overlap for objects of this diameter in pixels.
    fn overlap(&self, diameter: Option<f64>) -> usize {
        let wide = diameter.map_or(OVERLAP, |pixels| (DIAMETERS * pixels).ceil() as usize);
        self.overlap.unwrap_or(wide.max(OVERLAP))
    }
}

/// Segments one image and writes its masks.
pub fn segment(run: &Run<'_>, plan: &Plan, path: &Path) -> Result<Done> {
    let Scaling::Fixed { scale, .. } = run.scaling else {
        return Err(Error::Setting(
            "the size model needs a whole image in memory, and this one is gone through in parts; give a --diameter".into(),
        ));
    };
    let file = mask_file(run.saves, path, plan)?;
    let mut seconds = Seconds::default();
    let start = Instant::now();
    let (mut image, provenance) = io::open_parts(path, &run.axes)?;
    seconds.read = start.elapsed().as_secs_f64();

    let start = Instant::now();
    let size = image.size();
    let options = StreamOptions {
        infer: run.options,
        core: CORE,
        overlap: run.streaming.overlap(diameter(run, scale)),
    };
    tracing::info!(
        "{}: in blocks of {CORE} pixels that overlap by {}",
        path.display(),
        options.overlap
    );
    let mut sheet = Sheet::new(&plan.folder, size)?;
    let bar = console::bar(100, "segmenting in parts");
    let streamed = stream::segment(
        run.network,
        run.config,
        image.as_mut(),
        scale,
        options,
        &mut sheet,
        &mut |share| bar.set_position((share * 100.) as u64),
    );
    bar.finish_and_clear();
    let streamed = streamed?;
    seconds.network = start.elapsed().as_secs_f64();
    if streamed.cut > 0 {
        tracing::warn!(
            "{}: {} of {} objects are larger than the overlap of {} pixels and may be cut; give a larger --overlap",
            path.display(),
            streamed.cut,
            streamed.objects,
            options.overlap
        );
    }

    let start = Instant::now();
    let mut numbers = Renumbering::new(streamed.objects);
    let mut next = |row: usize, line: &mut [u32]| {
        sheet.read(row, 0, line)?;
        numbers.apply(line);
        Ok(())
    };
    if file.to_string_lossy().ends_with(io::outputs::MASKS_ZARR) {
        io::zarr::write_labels(&file, size, io::zarr::Ngff::V04, &mut next)?;
    } else {
        io::tiff::write_labels(&file, size, streamed.objects, &mut next)?;
    }
    seconds.write = start.elapsed().as_secs_f64();
    Ok(Done {
        cells: numbers.count(),
        others: BTreeMap::new(),
        image: provenance,
        scale,
        size_model: None,
        outputs: vec![file],
        seconds,
    })
}

/// The one file that is written; other results need the whole image.
fn mask_file(saves: &Saves, path: &Path, plan: &Plan) -> Result<PathBuf> {
    let mut files = saves.paths(path, &plan.folder);
    match (files.pop(), files.is_empty()) {
        (Some(file), true)
            if [io::outputs::MASKS_TIF, io::outputs::MASKS_ZARR]
                .iter()
                .any(|ending| file.to_string_lossy().ends_with(ending)) =>
        {
            Ok(file)
        }
        _ => Err(Error::Setting(format!(
            "{}: of an image that is gone through in parts only masks as TIFF or OME-Zarr are \
             written; use --save masks --format tif, or --stream never",
            path.display()
        ))),
    }
}
