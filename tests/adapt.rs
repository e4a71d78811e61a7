//! The adaptation loop on a toy model: it needs no Cellpose, repeats by seed, resumes bit for bit, and stops.

use candle_core::{Device, Tensor};
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::adapt::config::AdaptConfig;
use selfadapt_core::crops::CropSampler;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::model::ModelConfig;
use selfadapt_core::monitor::Probe;
use selfadapt_core::objective::L2sp;
use selfadapt_core::params::ParamSet;
use selfadapt_core::perturb::Perturb;
use selfadapt_core::run::{Deliver, Ending, Event, Outcome, Watch, Wish, Workbench, run};
use selfadapt_core::source::ImageSource;
use selfadapt_core::stop::{Reading, StopCriterion, Verdict};

use crate::toy::{self, ToyConfig};

pub const TOY: ToyConfig = ToyConfig { threshold: 0.5 };

/// Waves of different lengths; the last image may be poisoned.
pub struct Waves {
    pub poison: bool,
}

impl ImageSource for Waves {
    fn len(&self) -> usize {
        3
    }

    fn name(&self, index: usize) -> String {
        format!("wave {index}")
    }

    fn prepared(&self, index: usize) -> Result<Tensor> {
        let numbers: Vec<f32> = (0..48 * 40)
            .map(|i| {
                let (y, x) = ((i / 40) as f32, (i % 40) as f32);
                let wave = (y * (0.3 + 0.1 * index as f32)).sin() * (x * 0.4).cos();
                if self.poison { wave * f32::NAN } else { wave }
            })
            .collect();
        Ok(Tensor::from_vec(numbers, (1, 48, 40), &Device::Cpu)?)
    }
}

pub fn config() -> AdaptConfig {
    AdaptConfig {
        steps: 8,
        batch: 2,
        crop: 32,
        views: 8,
        ema: 0.9,
        learning_rate: 1e-2,
        ..AdaptConfig::default()
    }
}

/// Counts looks: crosses at the given reading after the first.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct InstancesBeyond {
    limit: f64,
}

#[typetag::serde(name = "test-instances-beyond")]
impl StopCriterion for InstancesBeyond {
    fn name(&self) -> &'static str {
        "instances-beyond"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let moved: f64 = initial
            .embeddings
            .iter()
            .zip(&now.embeddings)
            .map(|(a, b)| {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from((a - b).abs()))
                    .sum::<f64>()
            })
            .sum();
        moved
    }

    fn threshold(&self) -> Option<f64> {
        Some(self.limit)
    }
}

pub fn watch(limit: f64) -> Watch {
    Watch {
        every: 2,
        crops: 3,
        deliver: Deliver::Teacher,
        stop: true,
        hold: None,
        criteria: vec![Box::new(InstancesBeyond { limit })],
    }
}

pub fn bits(params: &ParamSet) -> Vec<u32> {
    params
        .tensors()
        .flat_map(|(_, tensor, _)| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        .map(f32::to_bits)
        .collect()
}

pub fn steps(adapting: &mut AdaptLoop, count: usize) -> Vec<f64> {
    let sampler = CropSampler { side: 32, batch: 2 };
    (0..count)
        .map(|_| {
            let crops = adapting.draw(&sampler, &Waves { poison: false }).unwrap();
            adapting.step(&crops).unwrap().loss
        })
        .collect()
}

fn run_with(
    source: &Waves,
    config: &AdaptConfig,
    watch: &Watch,
    events: &mut Vec<String>,
) -> Result<(Outcome, AdaptLoop)> {
    let mut adapting = AdaptLoop::new(&TOY, &toy::weights(), config)?;
    let (steady, strong) = (Waves { poison: false }, Perturb::default());
    let probe = Probe::choose(&steady, 32, 3, 0, &strong, &Device::Cpu)?;
    let decoder = TOY.decoder();
    let initial = probe.read(watch.delivered(&adapting), decoder.as_ref(), 2)?;
    let bench = Workbench {
        source,
        probe: &probe,
        decoder: decoder.as_ref(),
        initial: &initial,
    };
    let outcome = run(&mut adapting, &bench, watch, 0, None, &mut |event, _| {
        events.push(match event {
            Event::Stepped(report) => format!(
                "step {} loss {:.4} kept {:.2?}",
                report.step, report.loss, report.kept
            ),
            Event::Read(look) => {
                format!("read {} {}", look.step, look.verdict == Verdict::Continue)
            }
            Event::WentBack { step, .. } => format!("back to {step}"),
        });
        Ok(Wish::Continue)
    })?;
    Ok((outcome, adapting))
}

#[test]
fn the_same_seed_repeats_every_bit_and_another_does_not() {
    let weights = |seed: u64| {
        let mut adapting =
            AdaptLoop::new(&TOY, &toy::weights(), &AdaptConfig { seed, ..config() }).unwrap();
        steps(&mut adapting, 3);
        (
            bits(&adapting.student.params),
            bits(&adapting.teacher.network.params),
        )
    };
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

#[test]
fn a_restored_state_goes_on_bit_for_bit() {
    let mut whole = AdaptLoop::new(&TOY, &toy::weights(), &config()).unwrap();
    steps(&mut whole, 3);
    let state = whole.state().unwrap();
    let rest = steps(&mut whole, 3);
    let mut continued = AdaptLoop::new(&TOY, &toy::weights(), &config()).unwrap();
    // The state travels as JSON and tensors, as it does on disk.
    let numbers = serde_json::from_str(&serde_json::to_string(&state.numbers).unwrap()).unwrap();
    let state = selfadapt_core::adapt::LoopState {
        tensors: state.tensors,
        numbers,
    };
    continued.restore(&state).unwrap();
    assert_eq!(rest, steps(&mut continued, 3));
    assert_eq!(bits(&whole.student.params), bits(&continued.student.params));
    assert_eq!(
        bits(&whole.teacher.network.params),
        bits(&continued.teacher.network.params)
    );
}

#[test]
fn the_teacher_is_the_moving_average_of_the_student() {
    let mut adapting = AdaptLoop::new(&TOY, &toy::weights(), &config()).unwrap();
    let numbers = |params: &ParamSet| {
        params
            .get("last.weight")
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    let mut expected = numbers(&toy::weights());
    for _ in 0..3 {
        steps(&mut adapting, 1);
        for (teacher, student) in expected.iter_mut().zip(numbers(&adapting.student.params)) {
            *teacher = 0.9 * *teacher + 0.1 * student;
        }
    }
    let apart = expected
        .iter()
        .zip(numbers(&adapting.teacher.network.params))
        .map(|(a, b)| (a - b).abs())
        .fold(0., f32::max);
    assert!(apart < 1e-6, "{apart}");
    assert_ne!(expected, numbers(&toy::weights()));
}

#[test]
fn the_pull_keeps_weights_nearer_to_where_they_began() {
    let distance = |l2sp: L2sp| {
        let mut config = config();
        config.objective.l2sp = l2sp;
        let mut adapting = AdaptLoop::new(&TOY, &toy::weights(), &config).unwrap();
        steps(&mut adapting, 8);
        adapting
            .student
            .params
            .trainable()
            .zip(toy::weights().trainable())
            .map(|((_, a), (_, b))| {
                let moved = (a.as_detached_tensor() - b.as_detached_tensor()).unwrap();
                moved
                    .sqr()
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .to_scalar::<f32>()
                    .unwrap()
            })
            .sum::<f32>()
    };
    let (free, held) = (distance(L2sp::Off), distance(L2sp::Beta(10.)));
    assert!(held < 0.5 * free, "{held} of {free}");
}

#[test]
fn a_run_is_recorded_step_by_step() {
    let mut events = Vec::new();
    let config = AdaptConfig {
        steps: 5,
        ..config()
    };
    let (outcome, _) = run_with(
        &Waves { poison: false },
        &config,
        &watch(f64::INFINITY),
        &mut events,
    )
    .unwrap();
    assert_eq!(outcome.ending, Ending::Finished);
    assert_eq!((outcome.steps, outcome.accepted), (5, 5));
    insta::assert_snapshot!(events.join("\n"));
}

#[test]
fn a_crossing_ends_the_run_and_the_reading_before_it_is_the_last_accepted() {
    let mut free = Vec::new();
    run_with(
        &Waves { poison: false },
        &config(),
        &watch(f64::INFINITY),
        &mut free,
    )
    .unwrap();
    // A limit that the drift passes somewhere in the middle of the run.
    let mut limit = 1e-6;
    let stopped = loop {
        let mut events = Vec::new();
        let (outcome, _) = run_with(
            &Waves { poison: false },
            &config(),
            &watch(limit),
            &mut events,
        )
        .unwrap();
        if outcome.accepted > 0 {
            break outcome;
        }
        limit *= 3.;
    };
    assert!(
        matches!(stopped.ending, Ending::Crossed(Verdict::Crossed { .. })),
        "{stopped:?}"
    );
    assert!(
        stopped.accepted < stopped.steps && stopped.steps < 8,
        "{stopped:?}"
    );
}

#[test]
fn a_loss_that_is_not_a_number_is_taken_back_and_given_up_after_three() {
    let mut events = Vec::new();
    let error = run_with(&Waves { poison: true }, &config(), &watch(1.), &mut events).unwrap_err();
    assert!(
        matches!(error, Error::NotFinite(_) | Error::Tensor(_)),
        "{error}"
    );
    assert!(error.to_string().contains("3 times"), "{error}");
    assert_eq!(events, ["back to 0", "back to 0"]);
}

#[test]
fn settings_without_meaning_are_refused_by_name() {
    let refuse = |config: AdaptConfig| {
        AdaptLoop::new(&TOY, &toy::weights(), &config)
            .unwrap_err()
            .to_string()
    };
    assert!(
        refuse(AdaptConfig {
            crop: 30,
            ..config()
        })
        .contains("crop: expected a multiple of 4, found 30")
    );
    assert!(
        refuse(AdaptConfig {
            views: 3,
            ..config()
        })
        .contains("views")
    );
    assert!(
        refuse(AdaptConfig {
            ema: 1.5,
            ..config()
        })
        .contains("ema")
    );
    assert!(
        refuse(AdaptConfig {
            learning_rate: f64::NAN,
            ..config()
        })
        .contains("learning_rate")
    );
    assert!(
        serde_json::from_str::<AdaptConfig>("{\"learning_rat\": 1}")
            .unwrap_err()
            .to_string()
            .contains("learning_rat")
    );
}
