//! A run holds the size of cells: the bias of the foreground takes back what a look finds grown, in student and teacher.

use candle_core::Device;
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::hold::Held;
use selfadapt_core::model::ModelConfig;
use selfadapt_core::monitor::Probe;
use selfadapt_core::perturb::Perturb;
use selfadapt_core::run::{Ending, Event, Watch, Wish, Workbench, run};
use selfadapt_core::stop::{Reading, StopCriterion};

use crate::adapt::{TOY, Waves, bits, config, watch};
use crate::toy;

/// The logarithm of the ratio of all foreground, initially to now.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Foreground;

#[typetag::serde(name = "test-foreground")]
impl StopCriterion for Foreground {
    fn name(&self) -> &'static str {
        "foreground"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let pixels = |reading: &Reading| {
            let all = reading.instances.iter();
            let of = |labels: &selfadapt_core::labels::Labels| {
                labels.pixels().iter().filter(|&&label| label > 0).count()
            };
            all.map(of).sum::<usize>() as f64
        };
        (pixels(initial) / pixels(now)).ln()
    }

    fn threshold(&self) -> Option<f64> {
        None
    }
}

fn watched(hold: &str) -> Watch {
    let mut watch = Watch {
        hold: Some(hold.into()),
        ..watch(f64::INFINITY)
    };
    watch.criteria.push(Box::new(Foreground));
    watch
}

#[test]
fn a_look_takes_back_what_has_grown() {
    let adapting = AdaptLoop::new(&TOY, &toy::weights(), &config()).unwrap();
    let source = Waves { poison: false };
    let probe = Probe::choose(&source, 32, 3, 0, &Perturb::default(), &Device::Cpu).unwrap();
    let decoder = TOY.decoder();
    let watch = watched("foreground");
    let initial = probe.read(watch.delivered(&adapting), decoder.as_ref(), 2);
    let bench = Workbench {
        source: &source,
        probe: &probe,
        decoder: decoder.as_ref(),
        initial: &initial.unwrap(),
    };
    let before = bits(&adapting.teacher.network.params);
    assert_eq!(
        watch.hold_and_look(&adapting, &bench).unwrap().held,
        Held::Nothing
    );
    assert_eq!(bits(&adapting.teacher.network.params), before);

    let foreground = adapting.student.model.foreground().unwrap();
    let bias = || {
        let of = |params: &selfadapt_core::params::ParamSet| {
            params
                .get(foreground.bias)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()[foreground.index]
        };
        [
            of(&adapting.student.params),
            of(&adapting.teacher.network.params),
        ]
    };
    let [first, _] = bias();
    for params in [&adapting.student.params, &adapting.teacher.network.params] {
        foreground.lower(params, -0.5).unwrap();
    }
    // Nothing is held where nobody asks for it.
    let look = watched("").hold_and_look(&adapting, &bench).unwrap();
    assert!(
        look.held == Held::Nothing && look.drifts["foreground"] < -0.1,
        "{look:?}"
    );
    let look = watch.hold_and_look(&adapting, &bench).unwrap();
    let Held::Lowered(fall) = look.held else {
        panic!("{look:?}")
    };
    assert!((fall - 0.5).abs() < 0.1, "{look:?}");
    assert!(look.drifts["foreground"] >= 0., "{look:?}");
    for now in bias() {
        assert!((f64::from(first - now) - (fall - 0.5)).abs() < 1e-6);
    }

    let unknown = watched("mood")
        .hold_and_look(&adapting, &bench)
        .unwrap_err()
        .to_string();
    assert!(
        unknown.contains("watch.hold") && unknown.contains("mood"),
        "{unknown}"
    );
}

#[test]
fn a_run_that_is_interrupted_between_looks_comes_to_the_same_bits() {
    let source = Waves { poison: false };
    let probe = Probe::choose(&source, 32, 3, 0, &Perturb::default(), &Device::Cpu).unwrap();
    let decoder = TOY.decoder();
    let watch = watched("foreground");
    let begin = || AdaptLoop::new(&TOY, &toy::weights(), &config()).unwrap();
    let initial = probe.read(watch.delivered(&begin()), decoder.as_ref(), 2);
    let bench = Workbench {
        source: &source,
        probe: &probe,
        decoder: decoder.as_ref(),
        initial: &initial.unwrap(),
    };
    // Looks are due after every second step, and the first finds all grown.
    let ended = |stop_after: Option<usize>| {
        let mut adapting = begin();
        let foreground = adapting.student.model.foreground().unwrap();
        for params in [&adapting.student.params, &adapting.teacher.network.params] {
            foreground.lower(params, -0.5).unwrap();
        }
        let mut held = Vec::new();
        let mut go = |adapting: &mut AdaptLoop, stop: Option<usize>| {
            run(adapting, &bench, &watch, 0, None, &mut |event, _| {
                Ok(match event {
                    Event::Stepped(report) if Some(report.step) == stop => Wish::Stop,
                    Event::Read(look) => {
                        held.push((look.step, look.held));
                        Wish::Continue
                    }
                    _ => Wish::Continue,
                })
            })
            .unwrap()
            .ending
        };
        if stop_after.is_some() {
            assert_eq!(go(&mut adapting, stop_after), Ending::Interrupted);
        }
        assert_eq!(go(&mut adapting, None), Ending::Finished);
        (bits(&adapting.teacher.network.params), held)
    };
    let (whole, held) = ended(None);
    assert!(
        matches!(held[0], (2, Held::Lowered(fall)) if fall > 0.1),
        "{held:?}"
    );
    let (parts, held) = ended(Some(1));
    assert_eq!(
        held[0],
        (1, Held::Nothing),
        "a look that nobody planned changes nothing"
    );
    assert!(whole == parts);
}
