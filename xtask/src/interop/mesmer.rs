//! What we write for Mesmer, run by ONNX Runtime beside our own network.

use std::path::PathBuf;
use std::process::Command;

use super::page;
use crate::real::{self, Options};
use crate::steps::{Outcome, capture, cargo, succeed, timed};

const PREFACE: &str = "\
`selfadapt adapt` adapts Mesmer's network for a step on a tile of real tissue and writes `adapted`, the ONNX file with new weights. ONNX
Runtime runs it and the original on the same two random tiles, and `selfadapt` computes the same heads with what it wrote. Differences are the
largest ones, in parts of the head's range.

";

/// Where Mesmer's network and ONNX Runtime are.
#[derive(Debug, clap::Args)]
pub struct Places {
    /// Mesmer's network, which may not be given away: ../shared/assets/mesmer/fetch-mesmer.sh gets it
    #[arg(long, value_name = "FILE")]
    mesmer: Option<PathBuf>,
    /// A Python that has numpy, tifffile and onnxruntime [default: python3]
    #[arg(long, value_name = "PATH", default_value = "python3")]
    python_mesmer: PathBuf,
}

impl Places {
    /// Whether the network is there at all.
    pub fn known(&self) -> bool {
        self.mesmer.is_some()
    }
}

pub fn run(places: &Places, options: &Options) -> Outcome {
    let Some(original) = &places.mesmer else {
        return Err("expected Mesmer's network; name its file with --mesmer".into());
    };
    let original = original
        .canonicalize()
        .map_err(|reason| format!("{}: {reason}", original.display()))?;
    let tile = options.assets()?.join("mesmer/tile256.npz");
    let binary = options.binary()?;
    let folder = real::scratch("interop-mesmer")?;
    let script = || real::script(&places.python_mesmer, "check_mesmer.py");
    let image = folder.join("tile.tif");
    let mut draw = script();
    draw.arg("--tile").arg(&tile).arg("--image").arg(&image);
    succeed(draw)?;
    let run = folder.join("run");
    timed("adapt", || {
        let mut adapt = Command::new(&binary);
        adapt.args(["adapt", "--steps", "1", "--mode", "frozen", "--no-stop"]);
        adapt
            .args(["--pixel-size", "0.5", "--model"])
            .arg(&original);
        adapt.arg("--out").arg(&run).arg(&image);
        succeed(adapt)
    })?;
    timed("compare", || {
        let written = run.join("adapted");
        let mut check = script();
        check.arg("--original").arg(&original);
        check.arg("--written").arg(&written);
        check.arg("--record").arg(folder.join("maps.npz"));
        let environment = capture(check)?;
        let mut test = cargo(&["test", "--locked", "--workspace", "--test", "all"]);
        test.args(["--", "--nocapture", "mesmer::a_written_network"]);
        test.env("SELFADAPT_MESMER_WRITTEN", &written);
        test.env("SELFADAPT_MESMER_MAPS", folder.join("maps.npz"));
        let said = capture(test)?;
        let rows: Vec<&str> = said.lines().filter(|line| line.starts_with('|')).collect();
        if rows.is_empty() {
            return Err(format!("expected a table of heads, the test said:\n{said}"));
        }
        page::write(
            "Mesmer",
            &format!("{PREFACE}{}\n\n{}\n", environment.trim(), rows.join("\n")),
        )
    })
}
