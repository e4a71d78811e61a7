//! `cargo xtask bench-stardist`: wall time of `selfadapt segment` with a StarDist model against the package's.

use crate::bench_turns::{Comparison, compare};
use crate::steps::Outcome;

/// Time `selfadapt segment` against StarDist 0.9.1 with TensorFlow
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    turns: crate::bench_turns::Args,
}

const STARDIST: Comparison = Comparison {
    package: "StarDist",
    script: "bench_stardist.py",
    model: "stardist",
    rows: &[
        ("whole, without Python's imports", "/total", "/total"),
        ("prediction and suppression, warm", "/warm", "/work"),
        ("network, warm", "/network", "/seconds/network"),
    ],
    objects: "objects",
    diameters: (&[None], None),
};

pub fn run(args: &Args) -> Outcome {
    compare(&args.turns, &STARDIST)
}
