//! What a run leaves on disk and shows while it goes: record, snapshots, state, progress.

use selfadapt_core::adapt::{AdaptLoop, StepReport};
use selfadapt_core::error::Result;
use selfadapt_core::run::{Event, Look, Watch, Wish};
use selfadapt_core::stop::Verdict;

use super::folder::RunFolder;
use super::interrupt::Stop;
use super::progress::Progress;
use super::record::{Line, ReadingLine, Record, TruthLine};
use super::truth::Truth;

/// Sees every event of a run and keeps what must be kept.
pub struct Observer<'a> {
    /// Where snapshots and states go.
    pub folder: &'a RunFolder,
    /// How many snapshots stay.
    pub snapshots: usize,
    /// Digest of the pretrained weights: a state belongs to them.
    pub weights: &'a str,
    /// Which network is delivered, and whether crossings count.
    pub watch: &'a Watch,
    /// Labels to score against.
    pub truth: Option<&'a Truth>,
    /// run.jsonl.
    pub record: Record,
    /// What the user watches.
    pub progress: Progress,
    /// Ctrl-C.
    pub stop: Stop,
    /// The last step whose weights every criterion accepted.
    pub accepted: usize,
}

impl Observer<'_> {
    /// Whether the user wishes to go on.
    pub fn wish(&self) -> Wish {
        if self.stop.is_set() {
            Wish::Stop
        } else {
            Wish::Continue
        }
    }

    /// A step was taken.
    pub fn stepped(&mut self, report: &StepReport) -> Result<()> {
        self.record.push(&Line::Step(report.clone()))?;
        self.progress.step(report);
        Ok(())
    }

    /// The network was looked at: records it and keeps its weights.
    pub fn looked(&mut self, look: &Look, adapting: &AdaptLoop) -> Result<()> {
        let delivered = self.watch.delivered(adapting);
        let scored: Option<TruthLine> =
            self.truth.map(|truth| truth.score(delivered)).transpose()?;
        let within = look.verdict == Verdict::Continue || !self.watch.stop;
        if within {
            self.accepted = look.step;
        }
        let line = Line::Reading(ReadingLine::new(look, scored));
        self.record.push(&line)?;
        self.record.sync()?;
        self.folder.keep_snapshot(look.step, &delivered.params)?;
        // A run that ends here and is killed before it delivers looks once more, and ends again. The untouched model
        // needs no state: a run that is killed before its first saved look begins anew.
        if within && look.step > 0 {
            let state = adapting.state()?;
            self.folder
                .save_state(&state, self.accepted, self.weights)?;
        }
        // Only now: until then the saved state may rest on a snapshot that goes.
        self.folder.thin_snapshots(self.accepted, self.snapshots)?;
        self.progress.look(look, scored);
        Ok(())
    }

    /// Any event of a run.
    pub fn event(&mut self, event: Event, adapting: &AdaptLoop) -> Result<Wish> {
        match event {
            Event::Stepped(report) => self.stepped(report)?,
            Event::Read(look) => self.looked(look, adapting)?,
            Event::WentBack { step, reason } => {
                self.progress.say(&format!(
                    "{reason}: back to step {step} with half the learning rate"
                ));
                self.record.push(&Line::WentBack { step, reason })?;
            }
        }
        Ok(self.wish())
    }
}
