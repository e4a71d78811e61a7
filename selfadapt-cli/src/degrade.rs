//! `selfadapt degrade`: documented, seeded domain shifts, to try what adaptation does on images like one's own.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use ndarray::Array2;
use selfadapt_core::degrade::Degradation;
use selfadapt_core::error::Error;
use selfadapt_core::io::{self, Axes, outputs, tiff};
use selfadapt_core::labels::Labels;

use crate::failure::{Failure, Outcome};

/// Make worse copies of images: another domain, with the same cells.
///
/// Example:
///   selfadapt degrade --kind defocus --labels --out blurred images/
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Images: files, folders, or patterns
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// What happens to them
    #[arg(long, value_enum)]
    kind: Kind,
    /// Folder for the copies
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Seed of everything that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Copy <stem>_masks.tif along
    #[arg(long)]
    labels: bool,
}

/// The kinds, as `selfadapt_core::degrade` documents them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Contrast compressed tenfold under an uneven background
    LowContrast,
    /// Gaussian blur of 2.5 pixels
    Defocus,
    /// At most 20 photons a pixel, and read noise
    Noise,
    /// Bright becomes dark
    Invert,
    /// A field three times as wide and high, mostly empty
    Sparse,
    /// A faint, blurred, shifted second channel
    SecondChannel,
    /// Brightness that changes along the set
    Drift,
}

impl From<Kind> for Degradation {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::LowContrast => Self::LowContrast,
            Kind::Defocus => Self::Defocus,
            Kind::Noise => Self::Noise,
            Kind::Invert => Self::Invert,
            Kind::Sparse => Self::Sparse,
            Kind::SecondChannel => Self::SecondChannel,
            Kind::Drift => Self::Drift,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// If an image cannot be read or a copy not be written.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    let degradation = Degradation::from(args.kind);
    let images = io::inputs(&args.inputs, &[])?.images;
    std::fs::create_dir_all(&args.out).map_err(|e| Error::write(&args.out, e))?;
    let last = images.len().saturating_sub(1).max(1) as f64;
    for (index, path) in images.iter().enumerate() {
        let (image, _) = io::read(path, &Axes::default())?;
        let degraded = degradation.apply(&image, args.seed + index as u64, index as f64 / last)?;
        let to = outputs::path(path, Some(&args.out), ".tif");
        if to.exists() && std::fs::canonicalize(&to).ok() == std::fs::canonicalize(path).ok() {
            return Err(Failure::new(
                format!("{} would be written over itself", path.display()),
                "choose another folder with --out",
            ));
        }
        tiff::write(&to, degraded.pixels())?;
        if args.labels {
            copy_labels(path, &args.out, degradation)?;
        }
    }
    Ok(Outcome::Fine)
}

/// Labels stay where their cells are.
fn copy_labels(image: &Path, out: &Path, degradation: Degradation) -> Result<(), Failure> {
    let labels = io::read_labels(outputs::path(image, None, "_masks.tif"))?;
    let (height, width) = labels.size();
    let labels = if degradation.pads() {
        let pixels = labels.pixels();
        Labels::new(Array2::from_shape_fn(
            (3 * height, 3 * width),
            |(row, column)| {
                let inside = row / height == 1 && column / width == 1;
                if inside {
                    pixels[[row - height, column - width]]
                } else {
                    0
                }
            },
        ))
    } else {
        labels
    };
    outputs::write_masks_tif(outputs::path(image, Some(out), "_masks.tif"), &labels)?;
    Ok(())
}
