//! A run: steps, a reading every few of them, and the moment to stop.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::adapt::{AdaptLoop, LoopState, StepReport};
use crate::crops::CropSampler;
use crate::error::{Error, Result};
use crate::hold::{Asked, Held, Lever};
use crate::labels::Labels;
use crate::model::InstanceDecoder;
use crate::monitor::Probe;
use crate::network::Network;
use crate::source::ImageSource;
use crate::stop::{Reading, StopCriterion, Verdict, judge};

/// Which network is looked at and delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deliver {
    /// The moving average.
    Teacher,
    /// The network that learns.
    Student,
}

/// Settings of a run beyond those of its steps.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Steps between readings.
    pub every: usize,
    /// Validation crops at most: one an image, then further ones of each that lie apart.
    pub crops: usize,
    /// Which network is read and delivered.
    pub deliver: Deliver,
    /// Whether a crossing ends the run; otherwise it is only recorded, and the last weights are delivered.
    pub stop: bool,
    /// A criterion by name that is not to fall below 0, `shrinkage` for cells that are not to be drawn larger than the untouched
    /// model draws them: at each look the bias of the cell probability is lowered until it does not, in models
    /// that have one. Models that predict lengths (StarDist) are held to 0 from both sides, by a factor on all of them. An empty
    /// name holds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// What is read. Those with a threshold may stop the run, in this order.
    pub criteria: Vec<Box<dyn StopCriterion>>,
}

/// What a run did, as it happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// A step was taken.
    Stepped(&'a StepReport),
    /// The validation crops were looked at; step 0 is the untouched model.
    Read(&'a Look),
    /// A loss was not a number: the run went back to `step` with its learning rate halved.
    WentBack {
        /// The step that it went back to.
        step: usize,
        /// What was wrong.
        reason: String,
    },
}

/// One look at the validation crops.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// After how many steps.
    pub step: usize,
    /// Every criterion by name.
    pub drifts: BTreeMap<&'static str, f64>,
    /// Instances found, a label image for each validation crop.
    pub instances: Vec<Labels>,
    /// What was changed before this look.
    pub held: Held,
    /// What the criteria with thresholds say.
    pub verdict: Verdict,
}

impl Look {
    /// How many instances were found.
    pub fn found(&self) -> usize {
        self.instances.iter().map(Labels::count).sum()
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// A criterion crossed its threshold.
    Crossed(Verdict),
    /// No trial improved on the untouched model.
    Declined,
    /// The caller asked for it.
    Interrupted,
    /// The time was up.
    OutOfTime,
}

/// How a run ended, and which step's weights are the last that every criterion accepted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Why.
    pub ending: Ending,
    /// Steps taken.
    pub steps: usize,
    /// The last reading within all thresholds; 0 is the untouched model.
    pub accepted: usize,
}

/// What the observer wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Go on.
    Continue,
    /// End after this event.
    Stop,
}

/// After so many losses that are not numbers a run gives up.
const PATIENCE: usize = 3;

/// What a run works on.
pub struct Workbench<'a> {
    /// Where crops come from.
    pub source: &'a dyn ImageSource,
    /// Validation crops.
    pub probe: &'a Probe,
    /// Decodes instances.
    pub decoder: &'a dyn InstanceDecoder,
    /// The untouched model's reading.
    pub initial: &'a Reading,
}

impl Watch {
    /// The network of `state` that is read and delivered.
    pub fn delivered<'a>(&self, adapting: &'a AdaptLoop) -> &'a Network {
        match self.deliver {
            Deliver::Teacher => &adapting.teacher.network,
            Deliver::Student => &adapting.student_still,
        }
    }

    /// Reads the network that would be delivered now.
    ///
    /// # Errors
    /// If the reading fails.
    pub fn look(&self, adapting: &AdaptLoop, bench: &Workbench) -> Result<Look> {
        let batch = adapting.config().batch;
        let now = bench
            .probe
            .read(self.delivered(adapting), bench.decoder, batch)?;
        Ok(self.compare(adapting.steps_taken(), bench.initial, &now))
    }

    /// As [`Watch::look`], after holding what is to be held, which changes student and teacher: a look that belongs to the
    /// schedule, for a run that is interrupted and goes on must come to what it would have come to.
    ///
    /// # Errors
    /// If the reading fails, or the criterion to be held is not among those read.
    pub fn hold_and_look(&self, adapting: &AdaptLoop, bench: &Workbench) -> Result<Look> {
        let look = self.look(adapting, bench)?;
        let held = self.hold(&look, adapting, bench)?;
        if held == Held::Nothing {
            return Ok(look);
        }
        Ok(Look {
            held,
            ..self.look(adapting, bench)?
        })
    }

    /// Changes what moves the size of objects in student and teacher as far as `hold` asks for after this look.
    fn hold(&self, look: &Look, adapting: &AdaptLoop, bench: &Workbench) -> Result<Held> {
        let name = self.hold.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Ok(Held::Nothing);
        }
        let mut criteria = self.criteria.iter();
        let criterion = criteria
            .find(|criterion| criterion.name() == name)
            .ok_or_else(|| {
                Error::Setting(format!(
                    "watch.hold: expected a criterion of this run, found {name}"
                ))
            })?;
        let lever = Lever::of(adapting.student.model.as_ref());
        let drift = look.drifts.get(name).copied().unwrap_or(f64::NAN);
        let Some(lever) = lever.filter(|lever| lever.holds(drift)) else {
            return Ok(Held::Nothing);
        };
        let network = self.delivered(adapting);
        let held = lever.find(&Asked {
            maps: &bench.probe.maps(network, adapting.config().batch)?,
            size: bench.probe.size()?,
            decoder: bench.decoder,
            drift: &|instances| {
                let now = Reading {
                    instances,
                    ..Reading::default()
                };
                criterion.drift(bench.initial, &now)
            },
        })?;
        for params in [&adapting.student.params, &adapting.teacher.network.params] {
            lever.apply(held, params)?;
        }
        Ok(held)
    }

    /// What the criteria say of a reading after `step` steps.
    pub fn compare(&self, step: usize, initial: &Reading, now: &Reading) -> Look {
        let criteria = self.criteria.iter();
        Look {
            step,
            drifts: criteria
                .map(|criterion| (criterion.name(), criterion.drift(initial, now)))
                .collect(),
            instances: now.instances.clone(),
            held: Held::Nothing,
            verdict: judge(&self.criteria, initial, now),
        }
    }
}

/// Runs to the end of the schedule, to a crossing, to `deadline`, or until the observer wishes to stop.
///
/// The observer sees every event before the next step is taken, with the loop as it stands then, and keeps
/// what it wants to keep (records, snapshots). A run that is continued from a saved state passes `accepted`,
/// the last accepted step of the part before.
///
/// # Errors
/// If a step or a reading fails, or the loss is not a number again and again.
pub fn run(
    adapting: &mut AdaptLoop,
    bench: &Workbench,
    watch: &Watch,
    mut accepted: usize,
    deadline: Option<Duration>,
    observe: &mut dyn FnMut(Event, &AdaptLoop) -> Result<Wish>,
) -> Result<Outcome> {
    let started = Instant::now();
    let config = *adapting.config();
    let sampler = CropSampler {
        side: config.crop,
        batch: config.batch,
    };
    let mut safe: LoopState = adapting.state()?;
    let mut failures = 0;
    while adapting.steps_taken() < config.steps {
        let crops = adapting.draw(&sampler, bench.source)?;
        let report = match adapting.step(&crops) {
            Ok(report) => report,
            Err(Error::NotFinite(reason)) => {
                failures += 1;
                if failures >= PATIENCE {
                    return Err(Error::NotFinite(format!(
                        "{reason}, {failures} times although the learning rate was halved each time; \
                         the last good state is that of step {}",
                        safe.step()
                    )));
                }
                adapting.restore(&safe)?;
                adapting.halve_rate();
                let event = Event::WentBack {
                    step: safe.step(),
                    reason,
                };
                if observe(event, adapting)? == Wish::Stop {
                    return Ok(Outcome {
                        ending: Ending::Interrupted,
                        steps: safe.step(),
                        accepted,
                    });
                }
                continue;
            }
            Err(other) => return Err(other),
        };
        let mut wish = observe(Event::Stepped(&report), adapting)?;
        let late = deadline.is_some_and(|limit| started.elapsed() >= limit);
        let taken = adapting.steps_taken();
        let scheduled = taken == config.steps || taken.is_multiple_of(watch.every.max(1));
        if scheduled || late || wish == Wish::Stop {
            let look = if scheduled {
                watch.hold_and_look(adapting, bench)?
            } else {
                watch.look(adapting, bench)?
            };
            let within = look.verdict == Verdict::Continue;
            // Where criteria are only recorded, every reading is accepted.
            if within || !watch.stop {
                accepted = look.step;
            }
            if observe(Event::Read(&look), adapting)? == Wish::Stop {
                wish = Wish::Stop;
            }
            if !within && watch.stop {
                return Ok(Outcome {
                    ending: Ending::Crossed(look.verdict),
                    steps: look.step,
                    accepted,
                });
            }
            safe = adapting.state()?;
        }
        let steps = adapting.steps_taken();
        if wish == Wish::Stop {
            return Ok(Outcome {
                ending: Ending::Interrupted,
                steps,
                accepted,
            });
        }
        if late {
            return Ok(Outcome {
                ending: Ending::OutOfTime,
                steps,
                accepted,
            });
        }
    }
    Ok(Outcome {
        ending: Ending::Finished,
        steps: adapting.steps_taken(),
        accepted,
    })
}
