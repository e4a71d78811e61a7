//! `selfadapt models info`: what a model file holds.

use selfadapt_core::network::Network;
use selfadapt_core::params::{Lend, Role};
use serde_json::{Value, json};

use super::find;
use crate::failure::{Failure, Outcome};

/// Show what a model is and how it is set
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt models info cyto3
  selfadapt models info run
  selfadapt models info my-checkpoint --json")]
pub struct Args {
    /// A model file, a model folder, or a name
    #[arg(value_name = "PATH_OR_NAME")]
    model: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let loaded = find::open(&args.model)?;
    let settings = crate::segment::settings::listed(loaded.config.as_ref())?;
    let count = |role| {
        let values = loaded.params.iter().filter(|(_, _, found)| *found == role);
        values.map(|(_, var, _)| var.elem_count()).sum::<usize>()
    };
    let (weights, buffers) = (count(Role::Weight), count(Role::Buffer));
    let tensors = loaded.params.len();
    let input = loaded.config.input();
    let network = Network::new(loaded.config.as_ref(), loaded.params, Lend::Detached)?;
    let heads = network.model.heads();
    let from = &loaded.provenance;
    let size_model = loaded.config.size_model(&from.path)?;
    let size_model = size_model.as_ref().map(|size| size.path());
    if args.json {
        let report = json!({
            "path": from.path,
            "format": from.format,
            "sha256": from.sha256,
            "bytes": from.bytes,
            "tensors": tensors,
            "weights": weights,
            "buffers": buffers,
            "input": input,
            "heads": heads,
            "size_model": size_model,
            "settings": settings,
        });
        println!("{report:#}");
        return Ok(Outcome::Fine);
    }
    println!("path      {}", from.path.display());
    println!("model     {}", from.format);
    println!("file      {} bytes, sha256 {}", from.bytes, from.sha256);
    if let Some(path) = size_model {
        println!("size      {}", path.display());
    }
    println!("tensors   {tensors}: {weights} weights, {buffers} running statistics");
    println!(
        "input     {} channels, tiles of {} pixels",
        input.channels, input.tile
    );
    for head in heads {
        let noun = if head.channels == 1 {
            "channel"
        } else {
            "channels"
        };
        println!(
            "output    {}: {} {noun}, {:?}",
            head.name, head.channels, head.kind
        );
    }
    println!("settings");
    for (name, value) in &settings {
        if name != "model" {
            println!("  {name} = {}", brief(value));
        }
    }
    Ok(Outcome::Fine)
}

/// A setting's value as it is written after `--set NAME=`.
fn brief(value: &Value) -> String {
    value.to_string()
}
