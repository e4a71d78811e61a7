//! What we write for Cellpose, opened by the real Cellpose 3 and 2.

use std::path::PathBuf;
use std::process::Command;

use super::page;
use crate::real::{self, Options};
use crate::steps::{Outcome, capture, root, succeed, timed};

/// Images, and the diameter at which they are segmented.
const IMAGES: [&str; 4] = ["mouse_00", "mouse_05", "dsb_00", "stardist_img2d"];
const DIAMETER: &str = "20";

const PREFACE: &str = "\
`selfadapt models convert` turns a Cellpose checkpoint into safetensors and back;
the real packages open the result with `weights_only=True` and segment with it and with the original. `selfadapt
segment` segments the same images with the result, and its masks are compared with the packages'.

";

/// Where the real packages are.
#[derive(Debug, clap::Args)]
pub struct Pythons {
    /// A Python that has Cellpose 3.1.1.3 [default: made below the target folder, with pip]
    #[arg(long, value_name = "PATH", requires = "python_cellpose2")]
    python_cellpose3: Option<PathBuf>,
    /// A Python that has Cellpose 2.3.2 [default: made likewise]
    #[arg(long, value_name = "PATH", requires = "python_cellpose3")]
    python_cellpose2: Option<PathBuf>,
}

pub fn run(pythons: &Pythons, options: &Options) -> Outcome {
    let assets = options.assets()?;
    let (python3, python2) = match (&pythons.python_cellpose3, &pythons.python_cellpose2) {
        (Some(python3), Some(python2)) => (python3.clone(), python2.clone()),
        _ => environments()?,
    };
    let binary = options.binary()?;
    let folder = real::scratch("interop")?;
    let original = assets.join("cellpose/cyto_scellseg.pt");
    let (middle, written) = (folder.join("model.safetensors"), folder.join("model"));
    let image = |name: &&str| assets.join("data").join(format!("{name}.tif"));
    real::convert_there_and_back(&binary, &original, &middle, &written)?;
    timed("segment", || {
        let mut segment = Command::new(&binary);
        segment.args(["segment", "--quiet", "--diameter", DIAMETER, "--model"]);
        segment.arg(&written).arg("--out").arg(&folder);
        succeed({
            segment.args(IMAGES.iter().map(image));
            segment
        })
    })?;
    timed("compare", || {
        let mut check = real::script(&python3, "check_cellpose.py");
        check.arg("--python-cellpose3").arg(&python3);
        check.arg("--python-cellpose2").arg(&python2);
        check.arg("--written").arg(&written);
        check.arg("--original").arg(&original);
        check.args(["--diameter", DIAMETER, "--threads", "2"]);
        for name in IMAGES {
            check
                .arg("--ours")
                .arg(folder.join(format!("{name}_cp_masks.tif")));
        }
        check.args(IMAGES.iter().map(image));
        page::write("Cellpose", &format!("{PREFACE}{}", capture(check)?))
    })
}

/// Virtual environments with Cellpose 3 and 2; made once.
fn environments() -> Outcome<(PathBuf, PathBuf)> {
    let folder = real::target()?.join("xtask/python");
    let (three, two) = (folder.join("cellpose3"), folder.join("cellpose2"));
    let done = folder.join("installed");
    if !done.is_file() {
        timed("install Cellpose 3.1.1.3 and 2.3.2", || {
            let mut make = Command::new("sh");
            make.arg(root().join("tests/interop/make_venvs.sh"));
            make.arg("python3").args([&three, &two]);
            succeed(make)?;
            std::fs::write(&done, "").map_err(|reason| format!("{}: {reason}", done.display()))
        })?;
    }
    Ok((three.join("bin/python"), two.join("bin/python")))
}
