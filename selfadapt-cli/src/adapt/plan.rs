//! `adapt --plan`: what a run would do, and what it would cost, from one step and one look that leave nothing behind.

use std::time::Instant;

use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::crops::CropSampler;
use selfadapt_core::io;
use selfadapt_core::model::Sizing;
use selfadapt_core::params::ParamSet;
use selfadapt_core::source::Cached;
use selfadapt_models::format::Provenance;
use serde::Serialize;

use super::choose::name;
use super::resolve;
use super::settings::RunConfig;
use super::source::Files;
use super::{Args, outlines, verdict};
use crate::console::count;
use crate::doctor;
use crate::failure::{Failure, Outcome};

/// What a run would do.
#[derive(Debug, Serialize)]
struct Plan {
    model: Provenance,
    /// What it would compute on.
    device: String,
    images: usize,
    left_out: Vec<String>,
    sizing: Sizing,
    /// Working pixels an image pixel.
    scale: f64,
    /// Steps of the whole run, and of each trial before it.
    steps: usize,
    trial_steps: usize,
    modes: Vec<&'static str>,
    crops_a_step: usize,
    crop_pixels: usize,
    views: usize,
    validation_crops: usize,
    steps_between_looks: usize,
    /// Instances that the untouched model finds on the validation crops.
    instances: usize,
    doubts: Vec<String>,
    stops_at: Vec<(String, f64)>,
    seconds: Seconds,
    /// The most memory so far; none where the system does not tell.
    peak_mib: Option<u64>,
    disk_mib: u64,
}

#[derive(Debug, Serialize)]
struct Seconds {
    /// Measured: opening, reading and preparing validation images.
    preparing: f64,
    /// Measured.
    step: f64,
    /// Measured.
    look: f64,
    /// If no criterion stops the run.
    whole_run_at_most: f64,
}

/// Runs one step and one look, and says what a run would be. Writes nothing.
///
/// # Errors
/// If the run could not begin.
pub fn run(args: &Args) -> Result<Outcome, Failure> {
    let began = Instant::now();
    let (mut config, loaded) = resolve::settle(args)?;
    let placed = config.device.place(config.model.as_ref())?;
    config.model = placed.model;
    let found = io::inputs(&config.inputs, &[])?;
    let scale = config.model.working_scale(config.sizing)?;
    let images = found.images.len();
    let files = Files::new(found.images, &config, &std::env::temp_dir())?;
    let source = Cached::new(files, config.cache_mib << 20);
    let (watch, adapt) = (&config.watch, &config.adapt);
    let probe = config.probe(&source)?;
    let settings = config
        .choice
        .modes
        .first()
        .map_or(*adapt, |mode| mode.settings(adapt));
    let mut adapting = AdaptLoop::new(config.model.as_ref(), &loaded.params, &settings)?;
    let preparing = began.elapsed().as_secs_f64();

    let started = Instant::now();
    let initial = probe.read(
        watch.delivered(&adapting),
        config.model.decoder().as_ref(),
        adapt.batch,
    )?;
    let look = started.elapsed().as_secs_f64();
    let mut doubts = verdict::doubts(&initial);
    let outlines = outlines::look(&config, watch.delivered(&adapting), &probe)?;
    doubts.extend(outlines.as_ref().and_then(outlines::words));
    let sampler = CropSampler {
        side: adapt.crop,
        batch: adapt.batch,
    };
    let mut step = f64::NAN;
    // The first one also makes the buffers that all others reuse.
    for _ in 0..2 {
        let crops = adapting.draw(&sampler, &source)?;
        let started = Instant::now();
        adapting.step(&crops)?;
        step = started.elapsed().as_secs_f64();
    }
    let plan = Plan {
        device: placed.device,
        images,
        left_out: found
            .refused
            .iter()
            .map(ToString::to_string)
            .chain(source.left_out()?)
            .collect(),
        sizing: config.sizing,
        scale,
        steps: adapt.steps,
        trial_steps: config.choice.steps,
        modes: config.choice.modes.iter().map(name).collect(),
        crops_a_step: adapt.batch,
        crop_pixels: adapt.crop,
        views: adapt.views,
        validation_crops: probe.places().len(),
        steps_between_looks: watch.every,
        instances: initial
            .instances
            .iter()
            .map(selfadapt_core::labels::Labels::count)
            .sum(),
        doubts,
        stops_at: if watch.stop {
            config.thresholds()
        } else {
            Vec::new()
        },
        seconds: Seconds {
            preparing,
            step,
            look,
            whole_run_at_most: preparing + work(&config, step, look),
        },
        peak_mib: doctor::mebibytes("/proc/self/status", "VmHWM"),
        disk_mib: disk(&config, &loaded.params) >> 20,
        model: loaded.provenance,
    };
    if args.json {
        let text = serde_json::to_string_pretty(&plan)
            .map_err(|error| Failure::new(error.to_string(), "leave --json out"))?;
        println!("{text}");
    } else {
        plan.print(&config);
    }
    Ok(Outcome::Fine)
}

/// Seconds of steps and looks, trials included, if nothing stops the run.
fn work(config: &RunConfig, step: f64, look: f64) -> f64 {
    let trials = config.choice.modes.len();
    let tried = config.choice.steps.min(config.adapt.steps);
    // The run goes on from one of the trials; the others' steps are extra.
    let steps = config.adapt.steps + trials.saturating_sub(1) * tried;
    let looks = 1 + trials + config.adapt.steps.div_ceil(config.watch.every.max(1));
    steps as f64 * step + looks as f64 * look
}

/// Bytes of a run's folder: snapshots, the state to go on from (student, teacher, two moments), both delivered files.
fn disk(config: &RunConfig, params: &ParamSet) -> u64 {
    let one: usize = params.iter().map(|(_, var, _)| 4 * var.elem_count()).sum();
    let looks = 1 + config.adapt.steps.div_ceil(config.watch.every.max(1));
    (one * (looks.min(config.snapshots) + 4 + 2)) as u64
}

impl Plan {
    fn print(&self, config: &RunConfig) {
        println!("plan, nothing is written");
        println!(
            "model     {}, {}",
            self.model.path.display(),
            self.model.format
        );
        println!(
            "images    {}, seen at {:.3} of their size",
            count(self.images, "image"),
            self.scale
        );
        for reason in &self.left_out {
            println!("          left out: {reason}");
        }
        if let Sizing::Diameter(pixels) = self.sizing {
            println!("diameter  {pixels} pixels");
        }
        println!(
            "first     {} on {} by the untouched model",
            count(self.instances, "instance"),
            count(self.validation_crops, "validation crop")
        );
        for doubt in &self.doubts {
            println!("          {doubt}");
        }
        if !self.modes.is_empty() {
            println!(
                "trials    {} steps each with {}; the better one goes on, or the model is kept",
                self.trial_steps,
                self.modes.join(" and ")
            );
        }
        println!(
            "steps     at most {}, each of {} of {} pixels in {}; a look every {}",
            self.steps,
            count(self.crops_a_step, "crop"),
            self.crop_pixels,
            count(self.views, "view"),
            count(self.steps_between_looks, "step")
        );
        if self.stops_at.is_empty() {
            println!("stops     after the last step only");
        }
        for (index, (criterion, threshold)) in self.stops_at.iter().enumerate() {
            let first = if index == 0 { "stops at" } else { "" };
            println!("{first:8}  {criterion} above {threshold}");
        }
        let seconds = &self.seconds;
        println!(
            "time      {:.1} s a step, {:.1} s a look: {} at most on {}",
            seconds.step,
            seconds.look,
            spoken(seconds.whole_run_at_most),
            count(rayon::current_num_threads(), "thread")
        );
        match self.peak_mib {
            Some(peak) => println!(
                "memory    {peak} MiB now, and up to {} MiB of images kept",
                config.cache_mib
            ),
            None => println!("memory    not told by this system"),
        }
        println!("disk      {} MiB at most", self.disk_mib);
    }
}

/// A time as people say it.
fn spoken(seconds: f64) -> String {
    if seconds < 90. {
        format!("{seconds:.0} seconds")
    } else if seconds < 5400. {
        format!("{:.0} minutes", seconds / 60.)
    } else {
        format!("{:.1} hours", seconds / 3600.)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_numbers_are_spoken() {
        assert_eq!(count(1, "image"), "1 image");
        let spoken = [12., 240., 40_000.].map(spoken);
        assert_eq!(spoken, ["12 seconds", "4 minutes", "11.1 hours"]);
    }
}
