//! What we write for StarDist, opened by the real package; and models that the package trained, opened by us.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::page;
use crate::real::{self, Options};
use crate::steps::{Outcome, capture, root, succeed, timed};

/// Images that are segmented.
const IMAGES: [&str; 4] = ["mouse_00", "mouse_05", "dsb_08", "stardist_img2d"];

/// Labelled images that a model is taught with.
const LABELLED: [&str; 6] = ["dsb_08", "dsb_13", "dsb_14", "dsb_17", "dsb_19", "dsb_24"];

const PREFACE: &str = "\
`selfadapt models convert` turns a StarDist folder into safetensors and back; the real package opens the result and predicts
with it and with the original. `selfadapt adapt` adapts the model for a few steps, and the package opens the folder
`adapted` that it leaves; likewise `trained`, which a short `selfadapt train --from-scratch` left. The package trains small
models of other shapes for a minute, and `selfadapt segment` opens them. Labels are compared with the package's
`predict_instances` on the same images, normalised 1 to 99.8 %.

";

/// Where the real package is.
#[derive(Debug, clap::Args)]
pub struct Python {
    /// A Python that has StarDist 0.9.1 and TensorFlow [default: made below the target folder, with pip]
    #[arg(long, value_name = "PATH")]
    pub python_stardist: Option<PathBuf>,
}

pub fn run(python: &Python, options: &Options) -> Outcome {
    let assets = options.assets()?;
    let python = match &python.python_stardist {
        Some(python) => python.clone(),
        None => environment()?,
    };
    let binary = options.binary()?;
    let folder = real::scratch("interop-stardist")?;
    let original = assets.join("stardist");
    let image = |name: &str| assets.join("data").join(format!("{name}.tif"));
    let (middle, written) = (folder.join("model.safetensors"), folder.join("written"));
    real::convert_there_and_back(&binary, &original, &middle, &written)?;
    let run = folder.join("run");
    timed("adapt", || {
        let mut adapt = Command::new(&binary);
        adapt.args(["adapt", "--steps", "5", "--mode", "frozen", "--no-stop"]);
        adapt.args(["--diameter", "52", "--model"]).arg(&original);
        adapt.arg("--out").arg(&run);
        succeed({
            adapt.args([image("mouse_01"), image("mouse_02")]);
            adapt
        })
    })?;
    let taught = folder.join("taught");
    timed("train", || {
        let mut train = Command::new(&binary);
        train.args(["train", "--from-scratch", "--model", "stardist"]);
        train.args(["--set", "n_rays=16", "--crop", "128"]);
        train.args(["--epochs", "20", "--crops-per-epoch", "100", "--out"]);
        succeed({
            train.arg(&taught).args(LABELLED.map(image));
            train
        })
    })?;
    timed("compare", || {
        let mut check = real::script(&python, "check_stardist.py");
        check.arg("--selfadapt").arg(&binary);
        check.arg("--original").arg(&original);
        check.arg("--written").arg(&written);
        check.arg("--adapted").arg(run.join("adapted"));
        check.arg("--taught").arg(taught.join("trained"));
        check.arg("--scratch").arg(folder.join("trained"));
        check.arg("--training").arg(assets.join("data"));
        check.args(IMAGES.map(image));
        page::write("StarDist", &format!("{PREFACE}{}", capture(check)?))
    })
}

/// A Python that has the package.
///
/// # Errors
/// If pip cannot install it.
pub fn environment() -> Outcome<PathBuf> {
    let folder = real::target()?.join("xtask/python/stardist");
    let done = folder.join("installed");
    if !done.is_file() {
        timed("install StarDist 0.9.1", || {
            let mut make = Command::new("sh");
            make.arg(root().join("tests/interop/make_venv_stardist.sh"));
            make.args([Path::new("python3"), &folder]);
            succeed(make)?;
            std::fs::write(&done, "").map_err(|reason| format!("{}: {reason}", done.display()))
        })?;
    }
    Ok(folder.join("bin/python"))
}
