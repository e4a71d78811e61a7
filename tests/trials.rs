//! A trial of a way of adapting: it is the beginning of the run that goes on with it.

use candle_core::Device;
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::adapt::config::BatchNorm;
use selfadapt_core::choice::{Choice, Mode, Trial, trial};
use selfadapt_core::model::ModelConfig;
use selfadapt_core::monitor::Probe;
use selfadapt_core::perturb::Perturb;
use selfadapt_core::run::{Wish, Workbench};

use crate::adapt::{TOY, Waves, bits, config, steps, watch};
use crate::toy;

#[test]
fn a_trial_goes_on_as_the_run_that_it_begins() {
    let mode = Mode {
        batch_norm: BatchNorm::Frozen,
        learning_rate: 3e-3,
    };
    let settings = mode.settings(&config());
    let begin = || AdaptLoop::new(&TOY, &toy::weights(), &settings).unwrap();
    let mut whole = begin();
    steps(&mut whole, 5);

    let mut tried = begin();
    let watch = watch(f64::INFINITY);
    let source = Waves { poison: false };
    let probe = Probe::choose(&source, 32, 3, 0, &Perturb::default(), &Device::Cpu).unwrap();
    let decoder = TOY.decoder();
    let initial = probe.read(watch.delivered(&tried), decoder.as_ref(), 2);
    let initial = initial.unwrap();
    let bench = Workbench {
        source: &source,
        probe: &probe,
        decoder: decoder.as_ref(),
        initial: &initial,
    };
    let choice = Choice {
        steps: 3,
        ..Choice::default()
    };
    let mut seen = Vec::new();
    let outcome = trial(&choice, &mut tried, &bench, &watch, &mut |report| {
        seen.push(report.step);
        Wish::Continue
    });
    assert!(matches!(outcome.unwrap(), Some(Trial::Seen(look)) if look.step == 3));
    assert_eq!(seen, [1, 2, 3]);
    steps(&mut tried, 2);
    assert_eq!(
        bits(&whole.teacher.network.params),
        bits(&tried.teacher.network.params)
    );

    let stopped = trial(&choice, &mut begin(), &bench, &watch, &mut |_| Wish::Stop);
    assert_eq!(stopped.unwrap(), None);
    let poisoned = Workbench {
        source: &Waves { poison: true },
        ..bench
    };
    let mut go_on = |_| Wish::Continue;
    let broke = trial(&choice, &mut begin(), &poisoned, &watch, &mut go_on);
    assert!(matches!(broke.unwrap(), Some(Trial::Broke(_))));
}
