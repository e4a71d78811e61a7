//! Trying the modes: some steps of each from the same weights on the same crops, and the evidence in plain words.

use std::time::Instant;

use selfadapt_core::adapt::config::BatchNorm;
use selfadapt_core::adapt::{AdaptLoop, StepReport};
use selfadapt_core::choice::{self, Decision, Mode, Trial};
use selfadapt_core::error::Result;
use selfadapt_core::params::ParamSet;
use selfadapt_core::run::{Look, Wish, Workbench};
use selfadapt_core::stop::Verdict;

use super::interrupt::Stop;
use super::progress::Progress;
use super::record::{Line, ReadingLine, Record, TrialLine};
use super::settings::RunConfig;
use super::verdict::spoken;

/// What the trials came to.
pub enum Chosen {
    /// A loop that has taken its trial's steps, what it did, and how it looked then.
    Take(Box<AdaptLoop>, Vec<StepReport>, Look),
    /// Keep the untouched model.
    Keep,
    /// The user asked to stop.
    Interrupted,
}

/// Tries every mode of `config.choice` and decides; the record and `notes` get the evidence.
///
/// # Errors
/// If a step or a look fails.
pub fn choose(
    config: &RunConfig,
    pretrained: &ParamSet,
    bench: &Workbench,
    (progress, record, stop): (&Progress, &mut Record, &Stop),
    notes: &mut Vec<String>,
) -> Result<Chosen> {
    let choice = &config.choice;
    let (mut trials, mut loops, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for mode in &choice.modes {
        let began = Instant::now();
        let settings = mode.settings(&config.adapt);
        let mut adapting = AdaptLoop::new(config.model.as_ref(), pretrained, &settings)?;
        let mut reports = Vec::new();
        let tried = choice::trial(
            &mut adapting,
            choice.steps,
            bench,
            &config.watch,
            &mut |report| {
                progress.tried(&report, name(mode));
                reports.push(report);
                if stop.is_set() {
                    Wish::Stop
                } else {
                    Wish::Continue
                }
            },
        )?;
        let Some(trial) = tried else {
            return Ok(Chosen::Interrupted);
        };
        let (score, seconds) = (choice.score(&trial)?, began.elapsed().as_secs_f64());
        let evidence = words(mode, choice.steps, &trial, score);
        progress.say(&evidence);
        notes.push(evidence);
        record.push(&Line::Trial(TrialLine {
            mode: *mode,
            reading: match &trial {
                Trial::Seen(look) => Some(ReadingLine::new(look, None)),
                Trial::Broke(_) => None,
            },
            score,
            seconds,
        }))?;
        trials.push(trial);
        loops.push((adapting, reports));
        times.push(seconds);
    }
    let decision = choice.decide(&trials)?;
    let taken = match decision {
        Decision::Take(index) => times.get(index).copied().unwrap_or(0.),
        Decision::Keep => 0.,
    };
    let seconds = times.iter().sum::<f64>() - taken;
    let line = decision.clone();
    record.push(&Line::Choice {
        decision: line,
        seconds,
    })?;
    let Decision::Take(index) = decision else {
        return Ok(Chosen::Keep);
    };
    let (adapting, reports) = loops.swap_remove(index);
    match trials.swap_remove(index) {
        Trial::Seen(look) => {
            let taken = format!("going on with {}", name(&choice.modes[index]));
            progress.say(&taken);
            notes.push(taken);
            Ok(Chosen::Take(Box::new(adapting), reports, look))
        }
        // A trial that broke has no score and is never taken.
        Trial::Broke(_) => Ok(Chosen::Keep),
    }
}

/// The mode that an earlier part of the run decided for.
pub fn recorded(lines: &[Line], modes: &[Mode]) -> Option<Mode> {
    lines.iter().find_map(|line| match line {
        Line::Choice {
            decision: Decision::Take(index),
            ..
        } => modes.get(*index).copied(),
        _ => None,
    })
}

/// A mode in words.
pub fn name(mode: &Mode) -> &'static str {
    match mode.batch_norm {
        BatchNorm::Frozen => "frozen statistics",
        BatchNorm::Clean => "the images' own statistics",
        BatchNorm::Train => "the degraded crops' statistics",
    }
}

/// What a trial showed, in a sentence.
fn words(mode: &Mode, steps: usize, trial: &Trial, score: Option<f64>) -> String {
    let tried = format!("tried {steps} steps with {}", name(mode));
    let look = match trial {
        Trial::Seen(look) => look,
        Trial::Broke(reason) => return format!("{tried}: given up, {reason}"),
    };
    let percent = |criterion: &str| {
        let drift = look.drifts.get(criterion).copied().unwrap_or(f64::NAN);
        format!("{:+.0} %", -100. * drift)
    };
    match (look.verdict, score) {
        (
            Verdict::Crossed {
                criterion,
                drift,
                threshold,
            },
            _,
        ) => format!(
            "{tried}: not trusted, {} reached {drift:.3} where {threshold} is allowed",
            spoken(criterion)
        ),
        (Verdict::Continue, _) => format!(
            "{tried}: cells found again in degraded images {}, in turned images {}",
            percent("instability"),
            percent("view-disagreement")
        ),
    }
}
