//! `selfadapt dataset`: datasets of the field, unpacked to folders that every other command understands.

mod manifest;
mod place;

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use selfadapt_core::error::Error;
use selfadapt_core::io::datasets::{self, Compartment, Dataset, Kind, Split, Wish};

use crate::console;
use crate::failure::{Failure, Outcome};
use manifest::{Failed, Manifest, Request};
use place::{Done, Place};

/// Unpack a dataset as it is downloaded to images and label images
///
/// Writes OUT/images/NAME.tif, OUT/labels/NAME_masks.tif and OUT/dataset.json, which says what they are, under which licence
/// and from which files. Nothing is downloaded, and what DIR holds stays as it is. An interrupted command goes on where it was
/// when it is given again. The book's page on datasets says which files are expected and how labels are made of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt dataset LIVECell_dataset_2021 --split test --out livecell-test
  selfadapt dataset LIVECell_dataset_2021 --split train --cell-type BV2 --limit 50 --out bv2
  selfadapt dataset tissuenet_v1.1_test.npz --compartment nuclear --out tissuenet-nuclei
  selfadapt dataset ACTIS/data/Mouse_n0 --split test --out mouse

Then:
  selfadapt adapt --model cyto2 --out run livecell-test/images --truth livecell-test/labels
  selfadapt segment --model run --out masks livecell-test/images
  selfadapt evaluate --pred masks --truth livecell-test/labels")]
pub struct Args {
    /// The dataset: its folder, or one of its archives
    dir: PathBuf,
    /// Folder for the images and labels; made if it does not exist
    #[arg(long, value_name = "OUT")]
    out: PathBuf,
    /// Which dataset it is [default: told by the names of its files]
    #[arg(long, value_enum)]
    kind: Option<KindName>,
    /// Which part of it; needed where there are several
    #[arg(long, value_enum)]
    split: Option<SplitName>,
    /// Which labels (tissuenet) [default: whole-cell]
    #[arg(long, value_enum)]
    compartment: Option<CompartmentName>,
    /// Only images of this tissue (tissuenet)
    #[arg(long, value_name = "T")]
    tissue: Option<String>,
    /// Only images of this imaging platform (tissuenet)
    #[arg(long, value_name = "P")]
    platform: Option<String>,
    /// Only images of this cell type (livecell)
    #[arg(long, value_name = "NAME")]
    cell_type: Option<String>,
    /// Leave out images without labels, and labels without images
    #[arg(long)]
    skip_unpaired: bool,
    /// At most so many images, drawn by the seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Seed of the draw
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Print the contents of dataset.json
    #[arg(long)]
    json: bool,
}

/// The kinds, as `selfadapt_core::io::datasets` documents them.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindName {
    /// LIVECell: images and COCO annotations
    Livecell,
    /// TissueNet 1.0 or 1.1: npz archives
    Tissuenet,
    /// Flywing, Mouse or DSB2018 of ACTIS: npz archives
    Actis,
    /// Cellpose's set: NNN_img.png and NNN_masks.png
    Cellpose,
    /// NAME.tif and NAME_masks.tif
    Pairs,
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Livecell => Self::Livecell,
            KindName::Tissuenet => Self::Tissuenet,
            KindName::Actis => Self::Actis,
            KindName::Cellpose => Self::Cellpose,
            KindName::Pairs => Self::Pairs,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SplitName {
    Train,
    Val,
    Test,
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Val => Self::Val,
            SplitName::Test => Self::Test,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CompartmentName {
    WholeCell,
    Nuclear,
}

impl From<CompartmentName> for Compartment {
    fn from(name: CompartmentName) -> Self {
        match name {
            CompartmentName::WholeCell => Self::WholeCell,
            CompartmentName::Nuclear => Self::Nuclear,
        }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// If the dataset is not what it should be, or a file cannot be written.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    apart(&args.dir, &args.out)?;
    let wish = Wish {
        split: args.split.map(Split::from),
        compartment: args.compartment.map(Compartment::from),
        tissue: args.tissue,
        platform: args.platform,
        cell_type: args.cell_type,
        skip_unpaired: args.skip_unpaired,
    };
    let dataset = Dataset::open(&args.dir, args.kind.map(Kind::from), &wish).map_err(explain)?;
    for note in &dataset.notes {
        tracing::warn!("{note}");
    }
    let limit = args.limit.map(|limit| limit as usize);
    let chosen = datasets::subset(dataset.names().len(), limit, args.seed);
    let request = Request {
        wish,
        limit,
        seed: limit.map(|_| args.seed),
    };
    let mut manifest = Manifest::begin(&dataset, request)?;
    let mut place = Place::open(&args.out, &manifest)?;
    unpack(&dataset, &chosen, &mut place, &mut manifest)?;

    let done: Vec<&Done> = chosen
        .iter()
        .filter_map(|&at| place.done(&dataset.names()[at]))
        .collect();
    manifest.finish(&done);
    let text = place.finish(&manifest)?;
    for failed in &manifest.failed {
        tracing::error!("{}: {}", failed.image, failed.reason);
    }
    if args.json {
        print!("{text}");
    } else {
        println!("{}", manifest.summary(&args.out));
    }
    Ok(if manifest.failed.is_empty() {
        Outcome::Fine
    } else {
        Outcome::SomeFailed
    })
}

/// Writes the chosen images that are not there yet.
fn unpack(
    dataset: &Dataset,
    chosen: &[usize],
    place: &mut Place,
    manifest: &mut Manifest,
) -> Result<(), Failure> {
    let names = dataset.names();
    let todo: Vec<usize> = chosen
        .iter()
        .copied()
        .filter(|&at| place.done(&names[at]).is_none())
        .collect();
    if todo.len() < chosen.len() {
        tracing::info!("{} images are there already", chosen.len() - todo.len());
    }
    let bar = console::bar(todo.len(), "unpacking");
    let visited = dataset.visit(&todo, &mut |at, sample| {
        bar.inc(1);
        match sample {
            Ok(sample) => place.write(&names[at], &sample),
            Err(reason) => {
                manifest.failed.push(Failed {
                    image: names[at].clone(),
                    reason: reason.to_string(),
                });
                Ok(())
            }
        }
    });
    bar.finish_and_clear();
    visited.map_err(explain)
}

/// Results among the inputs would be taken for inputs the next time.
fn apart(dir: &Path, out: &Path) -> Result<(), Failure> {
    let (Ok(dir), Ok(absolute)) = (std::fs::canonicalize(dir), std::path::absolute(out)) else {
        return Ok(());
    };
    // `out` need not exist yet; what exists of it may be spelled through links.
    let there = absolute
        .ancestors()
        .find_map(|folder| std::fs::canonicalize(folder).ok());
    if there.is_some_and(|there| dir.is_dir() && there.starts_with(&dir)) {
        return Err(Failure::new(
            format!("{} lies inside of the dataset's own folder", out.display()),
            "choose a folder beside the dataset with --out",
        ));
    }
    Ok(())
}

/// A wish that does not fit the dataset is a matter of flags.
fn explain(error: Error) -> Failure {
    match error {
        Error::Setting(reason) => Failure::new(
            reason,
            "see --split, --compartment, --tissue, --platform and --cell-type in selfadapt dataset --help",
        ),
        other => other.into(),
    }
}
