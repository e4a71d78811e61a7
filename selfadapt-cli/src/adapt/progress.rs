//! The progress bar of a run: loss, what the gate admits, drifts, time left.

use indicatif::ProgressBar;
use selfadapt_core::adapt::StepReport;
use selfadapt_core::run::Look;

use super::record::TruthLine;
use crate::console;

/// What a person watches.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// A bar over `steps`.
    pub fn new(steps: usize) -> Self {
        Self {
            bar: console::bar(steps, "adapting"),
        }
    }

    /// A step was taken.
    pub fn step(&self, report: &StepReport) {
        let kept: Vec<String> = report
            .kept
            .iter()
            .map(|share| format!("{:.0} %", 100. * share))
            .collect();
        self.bar.set_position(report.step as u64);
        self.bar.set_message(format!(
            "loss {:.4}, kept {}",
            report.loss,
            kept.join(" and ")
        ));
    }

    /// A step of a trial was taken.
    pub fn tried(&self, report: &StepReport, mode: &str) {
        self.bar.set_position(report.step as u64);
        let message = format!("trying {mode}, loss {:.4}", report.loss);
        self.bar.set_message(message);
    }

    /// The validation crops were looked at.
    pub fn look(&self, look: &Look, truth: Option<TruthLine>) {
        let drift = |name: &str| look.drifts.get(name).copied().unwrap_or(f64::NAN);
        let scored = truth.map_or_else(String::new, |t| {
            format!(", AP@0.5 {:.3}, AP@0.75 {:.3}", t.ap50, t.ap75)
        });
        self.say(&format!(
            "step {}: {} instances, missed {:.3}, embedding moved {:.3}{scored}",
            look.step,
            look.found(),
            drift("false-negative-rate"),
            drift("embedding-distance"),
        ));
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        tracing::info!("{line}");
    }

    /// The run is over.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
