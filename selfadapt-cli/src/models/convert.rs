//! `selfadapt models convert`: a model from one file format to another.

use std::path::PathBuf;

use selfadapt_models::{format, run_folder};

use super::find;
use crate::failure::{Failure, Outcome};

/// Write a model in another file format
///
/// A name that ends in .safetensors gives a safetensors file with the model's settings inside; any other
/// name gives a file that the model's own package opens.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt models convert cyto3 cyto3.safetensors
  selfadapt models convert cyto3.safetensors cyto3-for-cellpose")]
pub struct Args {
    /// A model file, a model folder, or a name
    #[arg(value_name = "PATH_OR_NAME")]
    model: String,
    /// The file to write
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let loaded = find::open(&args.model)?;
    if args.out.exists() && !args.force {
        return Err(Failure::new(
            format!("{}: exists already", args.out.display()),
            "choose another name, or replace it with --force",
        ));
    }
    let (config, from) = (loaded.config.as_ref(), &loaded.provenance);
    let safetensors = args
        .out
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    if safetensors {
        run_folder::write_safetensors(&args.out, config, &loaded.params, &from.layout)?;
    } else {
        let save = format::named(&from.format)?.save.ok_or_else(|| {
            Failure::new(
                format!("no writer for {} files", from.format),
                "name a file that ends in .safetensors",
            )
        })?;
        save(&args.out, config, &loaded.params, &from.layout)?;
    }
    println!("{}: {} model", args.out.display(), from.format);
    Ok(Outcome::Fine)
}
