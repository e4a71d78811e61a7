//! `cargo xtask torture`: kills runs of `adapt` at random moments, fills their disk, and compares what they end with.

use crate::steps::{Outcome, cargo, succeed, timed};

/// Kill runs of `adapt` at random moments, fill their disk, and compare their last weights bit for bit
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A few kills instead of many
    #[arg(long)]
    quick: bool,
    /// Kills [default: 100, with --quick 6]
    #[arg(long)]
    kills: Option<u32>,
    /// Which moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: &Args) -> Outcome {
    let kills = args.kills.unwrap_or(if args.quick { 6 } else { 100 });
    timed(&format!("{kills} kills, seed {}", args.seed), || {
        let mut test = cargo(&["test", "--locked", "--workspace", "--test", "cli"]);
        test.args(["--", "cli_torture", "--nocapture", "--test-threads", "1"]);
        test.env("SELFADAPT_TORTURE_KILLS", kills.to_string());
        test.env("SELFADAPT_TORTURE_SEED", args.seed.to_string());
        // Without the reference data there is nothing to torture.
        test.env("SELFADAPT_REQUIRE_ASSETS", "1");
        succeed(test)
    })
}
