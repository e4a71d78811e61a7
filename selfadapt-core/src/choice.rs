//! Choosing how to adapt: a few steps in each mode, and what the criteria then say of them, decide.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adapt::config::{AdaptConfig, BatchNorm};
use crate::adapt::{AdaptLoop, StepReport};
use crate::crops::CropSampler;
use crate::error::{Error, Result};
use crate::params::ParamSet;
use crate::run::{Look, Watch, Wish, Workbench};
use crate::stop::Verdict;

/// One way to adapt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// Whose statistics the student's batch norm uses.
    pub batch_norm: BatchNorm,
    /// Highest learning rate.
    pub learning_rate: f64,
}

impl Mode {
    /// The settings of a run in this mode.
    pub fn settings(&self, of: &AdaptConfig) -> AdaptConfig {
        AdaptConfig {
            batch_norm: self.batch_norm,
            learning_rate: self.learning_rate,
            ..*of
        }
    }
}

/// What is tried before a run, and by what the trials are compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// Steps of each trial.
    pub steps: usize,
    /// What is tried, in this order; with none, a run's own settings are used without a trial.
    pub modes: Vec<Mode>,
    /// Criteria by name. The trial with the lowest sum of their drifts is the best.
    pub by: Vec<String>,
    /// How far below zero that sum must lie; where it does not, no trial has improved on the untouched model.
    #[serde(default)]
    pub margin: f64,
    /// Drifts by criterion beyond which a trial is not trusted. They are closer than a run's thresholds, as a trial
    /// is shorter than a run. Of the criterion that `watch.hold` names it is the drift with what was taken back.
    #[serde(default)]
    pub limits: BTreeMap<String, f64>,
}

/// How a trial went.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial {
    /// It ran; this is what its network looked like at its end.
    Seen(Look),
    /// A loss was not a number.
    Broke(String),
}

/// What the trials came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Go on with the trial of this index.
    Take(usize),
    /// Every trial crossed a threshold, or none improved on the untouched model: keep it.
    Keep,
}

impl Choice {
    /// Leaves of the modes those that differ on a network: where it has no running statistics, batch norm has no say,
    /// and of modes that are the same but for it the first is left.
    pub fn distinct(&mut self, params: &ParamSet) {
        if params.buffers().next().is_some() {
            return;
        }
        let mut rates: Vec<f64> = Vec::new();
        self.modes.retain(|mode| {
            let new = !rates.contains(&mode.learning_rate);
            rates.push(mode.learning_rate);
            new
        });
    }

    /// A look at a trial, judged by the limits too; `held` is the criterion that was held before it.
    ///
    /// # Errors
    /// If a criterion named in `limits` is not among those read.
    pub fn judge(&self, mut look: Look, held: Option<&str>) -> Result<Look> {
        for (name, &threshold) in &self.limits {
            let (criterion, mut drift) = drift(&look, name, "limits")?;
            if held == Some(name) {
                // What was taken back has happened all the same.
                drift += look.held.shrunk();
            }
            if look.verdict == Verdict::Continue {
                look.verdict = Verdict::of(criterion, drift, threshold);
            }
        }
        Ok(look)
    }

    /// The sum of the drifts that trials are compared by; `None` where a threshold was crossed, or the trial broke.
    ///
    /// # Errors
    /// If a criterion named in `by` is not among those read.
    pub fn score(&self, trial: &Trial) -> Result<Option<f64>> {
        let Trial::Seen(look) = trial else {
            return Ok(None);
        };
        let mut sum = 0.;
        for name in &self.by {
            sum += drift(look, name, "by")?.1;
        }
        Ok((look.verdict == Verdict::Continue && sum.is_finite()).then_some(sum))
    }

    /// The rule: of the trials that crossed no threshold and no limit, the one with the lowest score, if that is below zero
    /// by more than the margin. Between equals the earlier one wins.
    ///
    /// # Errors
    /// As [`Choice::score`].
    pub fn decide(&self, trials: &[Trial]) -> Result<Decision> {
        let mut best: Option<(usize, f64)> = None;
        for (index, trial) in trials.iter().enumerate() {
            if let Some(score) = self.score(trial)?
                && score < best.map_or(-self.margin, |(_, lowest)| lowest)
            {
                best = Some((index, score));
            }
        }
        Ok(best.map_or(Decision::Keep, |(index, _)| Decision::Take(index)))
    }
}

/// A criterion of a look: its own name, and its drift; `setting` is where `name` was given.
fn drift(look: &Look, name: &str, setting: &str) -> Result<(&'static str, f64)> {
    match look.drifts.get_key_value(name) {
        Some((&own, &drift)) => Ok((own, drift)),
        None => {
            let known: Vec<&str> = look.drifts.keys().copied().collect();
            Err(Error::Setting(format!(
                "choice.{setting}: expected criteria of this run ({}), found {name}",
                known.join(", ")
            )))
        }
    }
}

/// Takes the steps of one trial of `choice` and looks at what came of them; `adapting` then stands at their end. `None`
/// where `stepped`, which is asked after each step, wished to stop.
///
/// # Errors
/// If a step or the look fails for another reason than a loss that is not a number.
pub fn trial(
    choice: &Choice,
    adapting: &mut AdaptLoop,
    bench: &Workbench,
    watch: &Watch,
    stepped: &mut dyn FnMut(StepReport) -> Wish,
) -> Result<Option<Trial>> {
    let config = *adapting.config();
    let sampler = CropSampler {
        side: config.crop,
        batch: config.batch,
    };
    while adapting.steps_taken() < choice.steps.min(config.steps) {
        let crops = adapting.draw(&sampler, bench.source)?;
        match adapting.step(&crops) {
            Ok(report) => {
                if stepped(report) == Wish::Stop {
                    return Ok(None);
                }
            }
            Err(Error::NotFinite(reason)) => return Ok(Some(Trial::Broke(reason))),
            Err(other) => return Err(other),
        }
    }
    let look = watch.hold_and_look(adapting, bench)?;
    Ok(Some(Trial::Seen(
        choice.judge(look, watch.hold.as_deref())?,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::Held;
    use crate::params::Role;
    use candle_core::{DType, Device, Tensor};
    use std::collections::BTreeMap;

    fn choice() -> Choice {
        Choice {
            steps: 10,
            modes: Vec::new(),
            by: vec!["shakiness".into(), "doubt".into()],
            margin: 0.,
            limits: BTreeMap::new(),
        }
    }

    fn seen(shakiness: f64, doubt: f64, verdict: Verdict) -> Trial {
        Trial::Seen(Look {
            step: 10,
            drifts: BTreeMap::from([("shakiness", shakiness), ("doubt", doubt), ("other", 9.)]),
            instances: Vec::new(),
            held: Held::Nothing,
            verdict,
        })
    }

    const CROSSED: Verdict = Verdict::Crossed {
        criterion: "other",
        drift: 9.,
        threshold: 1.,
    };

    #[test]
    fn the_lowest_sum_wins_among_those_that_crossed_nothing() {
        let fine = Verdict::Continue;
        let decide = |trials: &[Trial]| choice().decide(trials).unwrap();
        let (good, better) = (seen(-0.1, 0., fine), seen(-0.1, -0.1, fine));
        assert_eq!(decide(&[good.clone(), better.clone()]), Decision::Take(1));
        assert_eq!(decide(&[better, good.clone()]), Decision::Take(0));
        let forbidden = seen(-5., 0., CROSSED);
        assert_eq!(decide(&[forbidden.clone(), good]), Decision::Take(1));
        assert_eq!(decide(&[forbidden]), Decision::Keep);
    }

    #[test]
    fn a_trial_beyond_a_limit_is_as_one_that_crossed_a_threshold() {
        let mut choice = choice();
        choice.limits.insert("doubt".into(), 0.1);
        let judged = |doubt: f64, verdict: Verdict| {
            let Trial::Seen(look) = seen(-1., doubt, verdict) else {
                unreachable!()
            };
            choice.judge(look, None).unwrap()
        };
        let fine = judged(0.1, Verdict::Continue);
        assert_eq!(fine.verdict, Verdict::Continue);
        let beyond = judged(0.11, Verdict::Continue);
        let verdict = Verdict::Crossed {
            criterion: "doubt",
            drift: 0.11,
            threshold: 0.1,
        };
        assert_eq!(beyond.verdict, verdict);
        assert_ne!(
            judged(f64::NAN, Verdict::Continue).verdict,
            Verdict::Continue
        );
        assert_eq!(judged(0.11, CROSSED).verdict, CROSSED);
        assert_eq!(
            choice.decide(&[Trial::Seen(beyond)]).unwrap(),
            Decision::Keep
        );
        assert_eq!(
            choice.decide(&[Trial::Seen(fine)]).unwrap(),
            Decision::Take(0)
        );
    }

    #[test]
    fn what_was_taken_back_counts_against_a_trial() {
        let mut choice = choice();
        choice.limits.insert("doubt".into(), 0.3);
        let judged = |held: Held, name: Option<&str>| {
            let Trial::Seen(look) = seen(-1., 0.05, Verdict::Continue) else {
                unreachable!()
            };
            choice.judge(Look { held, ..look }, name).unwrap().verdict
        };
        // Objects a sixth wider than they were about to be drawn: a third of their area.
        let stretched = Held::Stretched(1.16);
        let Verdict::Crossed { drift, .. } = judged(stretched, Some("doubt")) else {
            panic!("a trial that wore its objects away is trusted");
        };
        assert!((drift - 0.3468).abs() < 1e-3, "{drift}");
        assert_eq!(judged(stretched, Some("other")), Verdict::Continue);
        assert_eq!(judged(stretched, None), Verdict::Continue);
        let little = Held::Stretched(1.1);
        assert_eq!(judged(little, Some("doubt")), Verdict::Continue);
        let lowered = Held::Lowered(3.);
        assert_eq!(judged(lowered, Some("doubt")), Verdict::Continue);
    }

    #[test]
    fn the_model_is_kept_where_nothing_improved() {
        let fine = Verdict::Continue;
        let decide = |trial: Trial| choice().decide(&[trial]).unwrap();
        assert_eq!(decide(seen(0.1, 0., fine)), Decision::Keep);
        assert_eq!(decide(seen(0., 0., fine)), Decision::Keep);
        assert_eq!(decide(seen(f64::NAN, -1., fine)), Decision::Keep);
        assert_eq!(decide(Trial::Broke("NaN".into())), Decision::Keep);
        assert_eq!(choice().decide(&[]).unwrap(), Decision::Keep);
    }

    #[test]
    fn the_model_is_kept_where_no_more_than_the_margin_was_won() {
        let choice = Choice {
            margin: 0.05,
            ..choice()
        };
        let decide = |won: f64| {
            let trial = seen(-won, 0., Verdict::Continue);
            choice.decide(&[trial]).unwrap()
        };
        assert_eq!(decide(0.05), Decision::Keep);
        assert_eq!(decide(0.06), Decision::Take(0));
    }

    #[test]
    fn modes_that_differ_in_batch_norm_only_are_one_without_running_statistics() {
        let mode = |batch_norm, learning_rate| Mode {
            batch_norm,
            learning_rate,
        };
        let all = vec![
            mode(BatchNorm::Frozen, 1e-4),
            mode(BatchNorm::Clean, 1e-4),
            mode(BatchNorm::Clean, 1e-5),
        ];
        let left = |name: &str| {
            let tensor = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
            let role = |name: &str| match name {
                "running_mean" => Role::Buffer,
                _ => Role::Weight,
            };
            let params = ParamSet::new([(name.to_owned(), tensor)], role).unwrap();
            let mut choice = choice();
            choice.modes.clone_from(&all);
            choice.distinct(&params);
            choice.modes
        };
        assert_eq!(left("running_mean"), all);
        assert_eq!(left("weight"), [all[0], all[2]]);
    }

    #[test]
    fn an_unknown_criterion_is_named() {
        let mut choice = choice();
        choice.by.push("mood".into());
        choice.limits.insert("temper".into(), 1.);
        let trial = seen(0., 0., Verdict::Continue);
        let message = choice.score(&trial).unwrap_err().to_string();
        assert!(
            message.contains("by: ") && message.contains("mood") && message.contains("shakiness"),
            "{message}"
        );
        let Trial::Seen(look) = trial else {
            unreachable!()
        };
        let message = choice.judge(look, None).unwrap_err().to_string();
        assert!(
            message.contains("limits: ") && message.contains("temper"),
            "{message}"
        );
    }
}
