//! `cargo xtask bench-segment`: wall time of `selfadapt segment` against Cellpose's.

use crate::bench_turns::{Comparison, compare};
use crate::steps::Outcome;

/// Time `selfadapt segment` against Cellpose 3.1.1
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    turns: crate::bench_turns::Args,
}

const CELLPOSE: Comparison = Comparison {
    package: "Cellpose",
    script: "bench_segment.py",
    model: "cellpose/cyto_scellseg.pt",
    // From the loaded program to the last file written; ours from its start.
    rows: &[
        ("whole", "/total", "/total"),
        ("dynamics", "/dynamics", "/seconds/decode"),
    ],
    objects: "cells",
    diameters: (&[Some("30"), Some("20")], Some("26")),
};

pub fn run(args: &Args) -> Outcome {
    compare(&args.turns, &CELLPOSE)
}
