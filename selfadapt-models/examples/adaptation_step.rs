//! Our side of `cargo xtask bench`: times the parts of an adaptation step of CPnet, one for each line that it reads.
//!
//! usage: `adaptation_step CHECKPOINT BATCH CROP VIEWS [avx2]`, then on standard input names of parts; for each it prints a
//! line of JSON with seconds of wall and processor time (`step`, `teacher`, ...), or `{"memory": MIB}`, the process's peak.
//! With `avx2` no wider instructions are used.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Write;
use std::sync::OnceLock;
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use selfadapt_core::adapt::AdaptLoop;
use selfadapt_core::adapt::config::{AdaptConfig, BatchNorm};
use selfadapt_core::dihedral::Dihedral;
use selfadapt_core::gate::{ConfidenceGate, GateConfig};
use selfadapt_core::maps::{Masks, PseudoLabel};
use selfadapt_core::model::Mode;
use selfadapt_core::objective::{L2sp, Objective};
use selfadapt_core::teacher::label;
use selfadapt_kernels::adamw::{AdamW, Settings, gradient_norm};
use selfadapt_kernels::simd;
use selfadapt_kernels::views::{Activation, View, ViewsMerge, turn};
use selfadapt_models::format;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Everything that the parts need, made once.
struct Bench {
    adapting: AdaptLoop,
    images: Tensor,
    views: Vec<Dihedral>,
    /// What the teacher says of each view.
    outputs: Vec<Vec<Tensor>>,
    label: PseudoLabel,
    masks: Masks,
    gradients: GradStore,
    optimizer: AdamW,
}

impl Bench {
    fn new(checkpoint: &str, [batch, crop, views]: [usize; 3]) -> Outcome<Self> {
        let loaded = format::open(checkpoint)?;
        // The reference's settings, so that both do the same work.
        let config = AdaptConfig {
            steps: 25_000,
            batch,
            crop,
            views,
            ema: 0.99,
            learning_rate: 1e-4,
            batch_norm: BatchNorm::Train,
            objective: Objective {
                lambda: 1.,
                l2sp: L2sp::Strong,
            },
            gate: GateConfig::paper(),
            ..AdaptConfig::default()
        };
        let adapting = AdaptLoop::new(loaded.config.as_ref(), &loaded.params, &config)?;
        let channels = loaded.config.input().channels;
        let images = Tensor::rand(0f32, 1.0, (batch, channels, crop, crop), &Device::Cpu)?;
        Ok(Self {
            images,
            views: Dihedral::views(views)?,
            outputs: Vec::new(),
            label: PseudoLabel {
                mean: Vec::new(),
                spread: Vec::new(),
            },
            masks: Masks(Vec::new()),
            gradients: Tensor::zeros((), DType::F32, &Device::Cpu)?.backward()?,
            optimizer: AdamW::default(),
            adapting,
        })
    }

    /// What the parts after the whole step work on.
    fn prepare(&mut self) -> Outcome {
        if self.outputs.is_empty() {
            // Each view's output is as large as any other's, so one pass serves for all.
            let network = &self.adapting.teacher.network;
            let output = network.model.forward(&self.images, Mode::Eval)?.heads;
            self.outputs = vec![output; self.views.len()];
            self.label = label(
                network,
                &self.views[..2.min(self.views.len())],
                &self.images,
            )?;
            self.masks = self.gate()?;
            self.student()?;
        }
        Ok(())
    }

    fn gate(&self) -> Outcome<Masks> {
        let heads = self.adapting.student.model.heads();
        let mut gate = ConfidenceGate::new(self.adapting.config().gate, heads)?;
        Ok(gate.admit(heads, &self.label)?)
    }

    /// Forward, loss and backward of the student: the time until the loss is asked for, in it, and after it.
    fn student(&mut self) -> Outcome<[Clocks; 3]> {
        let model = &self.adapting.student.model;
        let objective = self.adapting.config().objective;
        let began = Clocks::now();
        let (mut asked, mut answered) = (began, began);
        self.gradients = model.backward(&self.images, Mode::Train, &mut |output| {
            asked = Clocks::now();
            let loss = objective.consistency(model.heads(), output, &self.label, &self.masks)?;
            answered = Clocks::now();
            Ok(loss.0)
        })?;
        let ended = Clocks::now();
        Ok([
            asked.since(began),
            answered.since(asked),
            ended.since(answered),
        ])
    }

    fn optimise(&mut self) -> Outcome {
        let adapting = &self.adapting;
        let mut items: Vec<(&str, &Var, &Tensor, &Tensor)> = Vec::new();
        for (name, weight) in adapting.student.params.trainable() {
            if let (Some(gradient), Some(anchor)) =
                (self.gradients.get(weight), adapting.anchor.get(name))
            {
                items.push((name, weight, gradient, anchor.as_tensor()));
            }
        }
        let gradients: Vec<&Tensor> = items.iter().map(|item| item.2).collect();
        gradient_norm(&gradients)?;
        let config = adapting.config();
        let settings = Settings {
            rate: 1e-6,
            weight_decay: config.weight_decay,
            l2sp: config.objective.l2sp.beta(),
            scale: 1.0,
        };
        self.optimizer.step(&items, &settings)?;
        adapting.teacher.follow(&adapting.student.params)?;
        Ok(())
    }

    fn merge(&self) -> Outcome {
        let heads = self.adapting.student.model.heads();
        let mut merges = [Activation::Identity, Activation::Sigmoid].map(ViewsMerge::new);
        for (view, outputs) in self.views.iter().zip(&self.outputs) {
            turn(&self.images, kernel_view(*view))?;
            for ((head, map), merge) in heads.iter().zip(outputs).zip(&mut merges) {
                let undone = view.inverse().channel_map(head)?;
                merge.push(map, kernel_view(*view), &undone)?;
            }
        }
        for merge in merges {
            merge.finish()?;
        }
        Ok(())
    }

    /// Runs one part; its seconds as JSON.
    fn run(&mut self, part: &str) -> Outcome<Value> {
        if !matches!(part, "step" | "memory") {
            self.prepare()?;
        }
        let began = Clocks::now();
        match part {
            "step" => drop(self.adapting.step(&self.images)?),
            "teacher" => drop(self.adapting.teacher.label(&self.images)?),
            "student" => {
                let [forward, loss, backward] = self.student()?.map(Clocks::json);
                return Ok(json!({"forward": forward, "loss": loss, "backward": backward}));
            }
            "masks" => drop(self.gate()?),
            "optimiser" => self.optimise()?,
            "views" => self.merge()?,
            "augmentation" => {
                let mut rng = ChaCha8Rng::seed_from_u64(0);
                let perturb = self.adapting.config().perturb;
                perturb.apply(&self.images, &mut rng)?;
            }
            "memory" => return Ok(json!({"memory": peak_mib()?})),
            other => return Err(format!("no part is called {other:?}").into()),
        }
        Ok(Clocks::now().since(began).json())
    }
}

/// Seconds of wall and processor time, since some moment.
#[derive(Clone, Copy)]
struct Clocks {
    wall: f64,
    processor: f64,
}

impl Clocks {
    fn now() -> Self {
        static FIRST: OnceLock<Instant> = OnceLock::new();
        Self {
            wall: FIRST.get_or_init(Instant::now).elapsed().as_secs_f64(),
            processor: processor_seconds().unwrap_or(f64::NAN),
        }
    }

    fn since(self, start: Self) -> Self {
        Self {
            wall: self.wall - start.wall,
            processor: self.processor - start.processor,
        }
    }

    fn json(self) -> Value {
        json!({"wall": self.wall, "cpu": self.processor})
    }
}

fn kernel_view(view: Dihedral) -> View {
    View {
        flip: view.flip,
        turns: view.turns,
    }
}

/// Processor seconds of this process so far, where the system tells (in hundredths).
fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Fields 14 and 15 of proc(5), counted after the name, which may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / 100.0)
}

/// The most memory that the process ever held, in MiB.
fn peak_mib() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib
        .ok_or("/proc/self/status names no VmHWM")?
        .parse::<f64>()?
        / 1024.0)
}

fn main() -> Outcome {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.last().is_some_and(|last| last == "avx2") {
        arguments.pop();
        simd::restrict(simd::Level::Avx2);
    }
    let [checkpoint, sizes @ ..] = arguments.as_slice() else {
        return Err("usage: adaptation_step CHECKPOINT BATCH CROP VIEWS [avx2]".into());
    };
    let sizes: Vec<usize> = sizes.iter().map(|s| s.parse()).collect::<Result<_, _>>()?;
    let sizes: [usize; 3] = sizes
        .try_into()
        .map_err(|_| "expected BATCH CROP VIEWS after the checkpoint")?;
    let mut bench = Bench::new(checkpoint, sizes)?;
    for line in std::io::stdin().lines() {
        println!("{}", bench.run(line?.trim())?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
