//! The end of a run: the delivered model, its manifest, its curves, and a sentence for the user.

use std::time::Duration;

use selfadapt_core::error::Result;
use selfadapt_core::run::Outcome;
use selfadapt_models::format::Loaded;
use selfadapt_models::run_folder;

use super::folder::{RunFolder, read_params};
use super::manifest::{Manifest, TruthSummary};
use super::record::{self, Line};
use super::settings::RunConfig;
use super::{curves, verdict};
use crate::inputs::{Fingerprint, RunInputs};

/// What came of a run.
pub struct Ended<'a> {
    pub outcome: &'a Outcome,
    /// What the user should know.
    pub notes: Vec<String>,
    /// What the networks computed on.
    pub device: String,
    pub took: Duration,
}

/// Writes all that a finished run leaves behind.
///
/// # Errors
/// If a file cannot be written; the snapshots stay, and `--resume` finishes the run.
pub fn deliver(
    folder: &RunFolder,
    config: &RunConfig,
    loaded: &Loaded,
    inputs: RunInputs,
    ended: Ended,
) -> Result<Manifest> {
    let outcome = ended.outcome;
    let snapshot = folder.snapshot_path(outcome.accepted);
    let params = read_params(&snapshot, |name| config.model.role(name))?;
    run_folder::write(
        folder.root(),
        config.model.as_ref(),
        &params,
        &loaded.provenance.layout,
    )?;

    let lines = record::read(&folder.file("run.jsonl"))?;
    let curves = curves::draw(&lines, &config.thresholds(), outcome.accepted);
    folder.write_text("curves.svg", &curves)?;

    let manifest = Manifest {
        selfadapt: env!("CARGO_PKG_VERSION").to_owned(),
        command: std::env::args().collect(),
        threads: rayon::current_num_threads(),
        device: ended.device,
        seed: config.adapt.seed,
        weights: Fingerprint {
            path: loaded.provenance.path.clone(),
            bytes: loaded.provenance.bytes,
            sha256: loaded.provenance.sha256.clone(),
        },
        inputs: inputs.files,
        steps: outcome.steps,
        truth: summary(&lines, outcome.accepted),
        notes: ended
            .notes
            .into_iter()
            .chain(verdict::held(&lines, outcome.accepted))
            .collect(),
        picked_over: None,
        delivered_step: outcome.accepted,
        stopped_by: verdict::stopped_by(outcome).to_owned(),
        verdict: verdict::sentence(outcome, config.watch.stop),
        seconds: ended.took.as_secs_f64(),
    };
    manifest.write(folder.root())?;
    Ok(manifest)
}

/// Scores of base, delivered and best reading.
pub fn summary(lines: &[Line], delivered: usize) -> Option<TruthSummary> {
    let scored: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Reading(reading) => Some((reading.step, reading.truth?)),
            _ => None,
        })
        .collect();
    let at = |step: usize| {
        scored
            .iter()
            .find(|(of, _)| *of == step)
            .map(|(_, truth)| *truth)
    };
    let (base, end) = (at(0)?, at(delivered)?);
    let (test_max_step, best) = scored.iter().max_by(|a, b| a.1.ap50.total_cmp(&b.1.ap50))?;
    Some(TruthSummary {
        base_ap50: base.ap50,
        base_ap75: base.ap75,
        delivered_ap50: end.ap50,
        delivered_ap75: end.ap75,
        test_max_ap50: best.ap50,
        test_max_step: *test_max_step,
    })
}
