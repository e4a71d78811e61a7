//! Everything that a run is made from, as one file that can be run again: config.toml.

use std::path::{Path, PathBuf};

use candle_core::Device;
use clap::ValueEnum;
use selfadapt_core::adapt::config::{AdaptConfig, BatchNorm};
use selfadapt_core::choice::{Choice, Mode};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::gate::GateConfig;
use selfadapt_core::io::Axes;
use selfadapt_core::model::{ModelConfig, Sizing};
use selfadapt_core::monitor::Probe;
use selfadapt_core::objective::{L2sp, Objective};
use selfadapt_core::outlines::Outlines;
use selfadapt_core::perturb::Perturb;
use selfadapt_core::run::{Deliver, Watch};
use selfadapt_core::source::ImageSource;
use selfadapt_core::stop::StopCriterion;
use serde::{Deserialize, Serialize};

/// A complete run.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The pretrained model's file or folder.
    pub weights: PathBuf,
    /// Images to adapt to: files, folders or patterns.
    pub inputs: Vec<PathBuf>,
    /// Size of objects or pixels.
    pub sizing: Sizing,
    /// Snapshots that stay on disk.
    pub snapshots: usize,
    /// Prepared images kept in memory, in MiB.
    pub cache_mib: usize,
    /// What networks compute on: auto, cpu, cpu:bf16, cuda:N, cuda:N:tf32 or cuda:N:bf16.
    #[serde(default)]
    pub device: crate::device::DeviceChoice,
    /// What to take from files of more than one plane: `channel_axis`, `plane`.
    #[serde(default)]
    pub axes: Axes,
    /// Settings of the steps. Where modes are chosen from, theirs replace `batch_norm` and `learning_rate`.
    pub adapt: AdaptConfig,
    /// What is tried before the run.
    pub choice: Choice,
    /// Readings and stopping.
    pub watch: Watch,
    /// The model's own settings.
    pub model: Box<dyn ModelConfig>,
}

/// Where settings start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Minutes on a laptop: most of the gain comes within some dozens of steps.
    Quick,
    /// The paper's length: 25,000 steps of 8 crops, 8 views.
    Paper,
}

impl Preset {
    /// Settings of the steps.
    pub fn adapt(self) -> AdaptConfig {
        match self {
            Self::Quick => AdaptConfig::default(),
            Self::Paper => AdaptConfig {
                steps: 25_000,
                batch: 8,
                views: 8,
                ema: 0.999,
                learning_rate: 3e-4,
                warm_up: 0.1,
                weight_decay: 1e-3,
                batch_norm: BatchNorm::Train,
                objective: Objective {
                    lambda: 0.5,
                    l2sp: L2sp::Moderate,
                },
                gate: GateConfig::paper(),
                perturb: Perturb::default(),
                // The paper knows no such thing.
                outlines: Outlines::off(),
                ..AdaptConfig::default()
            },
        }
    }

    /// What is tried before the run: see docs/calibration.md for why these.
    pub fn choice(self) -> Choice {
        let mode = |batch_norm| Mode {
            batch_norm,
            learning_rate: self.adapt().learning_rate,
        };
        Choice {
            steps: 10,
            modes: match self {
                Self::Quick => vec![mode(BatchNorm::Frozen), mode(BatchNorm::Clean)],
                // The paper knows one mode.
                Self::Paper => Vec::new(),
            },
            by: vec!["instability".into()],
            margin: 0.05,
            // Between the trials of the tuned sets that led to a gain and those that led to harm: docs/calibration.md.
            limits: [("false-negative-rate", 0.125), ("shrinkage", 0.3)]
                .map(|(name, limit)| (name.to_owned(), limit))
                .into(),
        }
    }

    /// Readings and stopping; `fits` says whether outlines are fitted.
    pub fn watch(self, fits: bool) -> Watch {
        Watch {
            every: match self {
                Self::Quick => 5,
                Self::Paper => 250,
            },
            crops: 16,
            deliver: Deliver::Teacher,
            stop: true,
            hold: match self {
                Self::Quick => Some("shrinkage".into()),
                // The paper knows no such thing.
                Self::Paper => None,
            },
            criteria: criteria(fits),
        }
    }
}

/// The criteria that may stop a run, and those that are only recorded. Where outlines are fitted cells are meant to be drawn
/// smaller, and maps lag behind: there the run stops once outlines lie on duller edges than at first.
fn criteria(fits: bool) -> Vec<Box<dyn StopCriterion>> {
    vec![
        Box::new(selfadapt_metrics::false_negative_rate::FalseNegativeRate::default()),
        Box::new(selfadapt_metrics::embedding_distance::EmbeddingDistance::default()),
        Box::new(selfadapt_metrics::inconsistency::Inconsistency {
            threshold: (!fits).then_some(0.01),
        }),
        Box::new(selfadapt_metrics::new_instances::NewInstances {
            threshold: Some(0.5),
            ..Default::default()
        }),
        Box::new(selfadapt_metrics::shrinkage::Shrinkage {
            threshold: (!fits).then_some(0.05),
            ..Default::default()
        }),
        Box::new(selfadapt_metrics::dullness::Dullness {
            threshold: fits.then_some(0.),
            ..Default::default()
        }),
        Box::new(selfadapt_metrics::mean_confidence::MeanConfidence::default()),
        Box::new(selfadapt_metrics::view_variance::ViewVariance::default()),
        Box::new(selfadapt_metrics::instability::Instability::default()),
        Box::new(selfadapt_metrics::view_disagreement::ViewDisagreement::default()),
        Box::new(selfadapt_metrics::instance_count::InstanceCount::default()),
        Box::new(selfadapt_metrics::instance_size::InstanceSize::default()),
    ]
}

impl RunConfig {
    /// The configuration as text, complete.
    ///
    /// # Errors
    /// If a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Setting(format!("config.toml: {e}")))
    }

    /// The validation crops of the run, the same each time.
    ///
    /// # Errors
    /// As [`Probe::choose`].
    pub fn probe(&self, source: &dyn ImageSource) -> Result<Probe> {
        Probe::choose(
            source,
            self.adapt.crop,
            self.watch.crops,
            self.adapt.seed,
            &self.model.perturb(),
            &Device::Cpu,
        )
    }

    /// The criteria that may stop the run, by name, and what each allows.
    pub fn thresholds(&self) -> Vec<(String, f64)> {
        let criteria = self.watch.criteria.iter();
        criteria
            .filter_map(|criterion| Some((criterion.name().to_owned(), criterion.threshold()?)))
            .collect()
    }

    /// Reads the settings of a run folder.
    ///
    /// # Errors
    /// If the folder is no run's, or the file is damaged.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("config.toml");
        if !path.is_file() {
            return Err(Error::read(
                folder,
                "expected a run folder with a config.toml, as `selfadapt adapt --out RUN` makes one",
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| Error::read(&path, e))?;
        toml::from_str(&text).map_err(|e| Error::read(&path, e))
    }

    /// Lays the keys of a (possibly partial) file over these settings. Unknown keys are errors.
    ///
    /// # Errors
    /// If a key or value makes no sense.
    pub fn overlaid(&self, over: toml::Table) -> std::result::Result<Self, toml::de::Error> {
        let mut all = toml::Table::try_from(self).map_err(serde::de::Error::custom)?;
        lay_over(&mut all, over);
        all.try_into()
    }
}

/// Replaces values key by key; tables are entered, except those that name a kind (`model`, `criterion`).
pub fn lay_over(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => lay_over(inner, value),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}
