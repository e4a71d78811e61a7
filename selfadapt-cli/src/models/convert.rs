//! `selfadapt models convert`: a model from one file format to another.

use std::path::PathBuf;

use candle_core::DType;
use selfadapt_core::error::Result;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::params::ParamSet;
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
    /// Store the filters in a safetensors file in half precision: half the size, eleven bits of each number
    #[arg(long)]
    half: bool,
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
    if args.half && !safetensors {
        return Err(Failure::new(
            "--half: only safetensors files are written in half precision",
            "name a file that ends in .safetensors",
        ));
    }
    if safetensors {
        let halved = args
            .half
            .then(|| halved(config, &loaded.params))
            .transpose()?;
        let params = halved.as_ref().unwrap_or(&loaded.params);
        run_folder::write_safetensors(&args.out, config, params, &from.layout)?;
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

/// A copy with filters and matrices in half precision; statistics and other vectors are few, and may be large numbers.
fn halved(config: &dyn ModelConfig, params: &ParamSet) -> Result<ParamSet> {
    let tensors = params
        .tensors()
        .map(|(name, tensor, _)| {
            let many = tensor.rank() > 1 && tensor.dtype() == DType::F32;
            let tensor = if many {
                tensor.to_dtype(DType::F16)?
            } else {
                tensor
            };
            Ok((name.to_owned(), tensor))
        })
        .collect::<Result<Vec<_>>>()?;
    ParamSet::new(tensors, |name| config.role(name))
}
