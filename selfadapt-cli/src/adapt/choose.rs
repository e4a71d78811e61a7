//! Trying the modes: some steps of each from the same weights on the same crops, and the evidence in plain words.

use std::time::Instant;

use selfadapt_core::adapt::config::BatchNorm;
use selfadapt_core::adapt::{AdaptLoop, StepReport};
use selfadapt_core::choice::{self, Decision, Mode, Trial};
use selfadapt_core::error::Result;
use selfadapt_core::labels::Labels;
use selfadapt_core::params::ParamSet;
use selfadapt_core::run::{Ending, Outcome, Workbench};
use selfadapt_core::stop::Verdict;
use selfadapt_metrics::disagreement::disagreement;

use super::observe::Observer;
use super::record::{Line, ReadingLine, TrialLine};
use super::settings::RunConfig;
use super::verdict::spoken;

/// Where a run begins.
pub enum Start {
    /// With this loop: at its first step, or where its trial or an earlier part of the run left it.
    Go(Box<AdaptLoop>),
    /// It is over already.
    Over(Outcome),
}

/// Why there is one trial: see [`choice::Choice::distinct`].
const ONE_MODE: &str =
    "one mode is tried: the model has no running statistics, in which modes would differ";

/// Tries every mode of `config.choice` and decides; the record and `notes` get the evidence.
///
/// # Errors
/// If a step, a look or a file fails.
pub fn choose(
    config: &RunConfig,
    pretrained: &ParamSet,
    bench: &Workbench,
    observer: &mut Observer,
    notes: &mut Vec<String>,
) -> Result<Start> {
    let choice = &config.choice;
    if choice.modes.len() == 1 && pretrained.buffers().next().is_none() {
        notes.push(ONE_MODE.to_owned());
    }
    let (mut trials, mut loops, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for mode in &choice.modes {
        let began = Instant::now();
        let settings = mode.settings(&config.adapt);
        let mut adapting = AdaptLoop::new(config.model.as_ref(), pretrained, &settings)?;
        let mut reports = Vec::new();
        let mut stepped = |report: StepReport| {
            observer.progress.tried(&report, name(mode));
            reports.push(report);
            observer.wish()
        };
        let tried = choice::trial(choice, &mut adapting, bench, &config.watch, &mut stepped)?;
        let Some(trial) = tried else {
            return Ok(over(Ending::Interrupted, 0));
        };
        let (score, seconds) = (choice.score(&trial)?, began.elapsed().as_secs_f64());
        let evidence = words(mode, choice.steps, &trial);
        observer.progress.say(&evidence);
        notes.push(evidence);
        observer.record.push(&Line::Trial(TrialLine {
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
        Decision::Take(index) => index,
        Decision::Keep => usize::MAX,
    };
    let lost = |(_, seconds): (usize, &f64)| *seconds;
    observer.record.push(&Line::Choice {
        decision,
        seconds: times
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != taken)
            .map(lost)
            .sum(),
        disagreement: between(&trials),
    })?;
    let all = trials.into_iter().zip(loops).zip(&choice.modes);
    let Some(((Trial::Seen(look), (adapting, reports)), mode)) = all.into_iter().nth(taken) else {
        return Ok(over(Ending::Declined, choice.steps));
    };
    let told = format!("going on with {}", name(mode));
    observer.progress.say(&told);
    notes.push(told);
    for report in &reports {
        observer.stepped(report)?;
    }
    observer.looked(&look, &adapting)?;
    Ok(Start::Go(Box::new(adapting)))
}

/// How much what the trials find disagrees: the mean over pairs of those that were seen.
fn between(trials: &[Trial]) -> Option<f64> {
    let seen: Vec<&[Labels]> = trials
        .iter()
        .filter_map(|trial| match trial {
            Trial::Seen(look) => Some(look.instances.as_slice()),
            Trial::Broke(_) => None,
        })
        .collect();
    let pairs = seen.iter().enumerate();
    let pairs = pairs.flat_map(|(n, one)| seen[n + 1..].iter().map(move |other| (one, other)));
    let apart: Vec<f64> = pairs.map(|(one, other)| disagreement(one, other)).collect();
    (!apart.is_empty()).then(|| apart.iter().sum::<f64>() / apart.len() as f64)
}

fn over(ending: Ending, steps: usize) -> Start {
    Start::Over(Outcome {
        ending,
        steps,
        accepted: 0,
    })
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
        BatchNorm::Blend => "blended statistics",
        BatchNorm::Train => "the degraded crops' statistics",
    }
}

/// What a trial showed, in a sentence.
fn words(mode: &Mode, steps: usize, trial: &Trial) -> String {
    let tried = format!("tried {steps} steps with {}", name(mode));
    let look = match trial {
        Trial::Seen(look) => look,
        Trial::Broke(reason) => return format!("{tried}: given up, {reason}"),
    };
    let drift = look.drifts.get("instability").copied().unwrap_or(f64::NAN);
    let points = (-100. * drift).round();
    match look.verdict {
        Verdict::Crossed {
            criterion,
            drift,
            threshold,
        } => format!(
            "{tried}: not trusted, {} reached {drift:.3} where {threshold} is allowed",
            spoken(criterion)
        ),
        Verdict::Continue => format!(
            "{tried}: of 100 cells, {:.0} {} are found again in degraded images than with the untouched model",
            points.abs(),
            if points < 0. { "fewer" } else { "more" }
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use selfadapt_core::hold::Held;
    use selfadapt_core::run::Look;

    fn trial(row: &[u32]) -> Trial {
        Trial::Seen(Look {
            step: 10,
            drifts: BTreeMap::new(),
            instances: vec![Labels::from_rows(1, row.len(), row.to_vec()).unwrap()],
            held: Held::Nothing,
            verdict: Verdict::Continue,
        })
    }

    #[test]
    fn trials_are_compared_in_pairs() {
        let both = || trial(&[1, 1, 0, 2, 2]);
        let one = || trial(&[1, 1, 0, 0, 0]);
        assert_eq!(between(&[both(), one()]), Some(0.5));
        // Pairs apart by a half, by a half, and not at all.
        assert_eq!(between(&[both(), one(), one()]), Some(1. / 3.));
        let broken = || Trial::Broke("NaN".into());
        assert_eq!(between(&[both(), broken()]), None);
        assert_eq!(between(&[both()]), None);
    }
}
