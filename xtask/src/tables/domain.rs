//! One column of the paper's tables: a set of images that is new to a model, and the runs that meet it.

use std::path::{Path, PathBuf};

use super::scale::Scale;
use crate::experiment::job::{Job, Kind};
use crate::experiment::record::{self, Record};
use crate::steps::Outcome;

/// Where the model of a table's lower half is from, which learned from labels of the same images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tuned {
    /// A file that others trained.
    Checkpoint(PathBuf),
    /// `selfadapt train`, once a seed, on the labels of the images that are adapted to.
    Here,
}

/// A set of images and the models that meet it.
#[derive(Clone, Debug)]
pub struct Domain {
    /// In file names, and the name of its column among the paper's numbers.
    pub name: String,
    /// In tables.
    pub title: String,
    /// What it is, in a sentence for the page.
    pub about: String,
    /// Holds `adapt/` (images), `labelled/` (the same with labels) and `score/` (others, with labels).
    pub folder: PathBuf,
    /// The pretrained model.
    pub model: PathBuf,
    /// Flags of the working scale of the pretrained model; one that learned from labels knows its own.
    pub sizing: Vec<String>,
    /// `--channels`.
    pub channels: &'static str,
    /// The model of the lower half.
    pub tuned: Tuned,
    /// Levels of L2-SP for the pretrained and the fine-tuned model, where the paper names them.
    pub l2sp: [Option<&'static str>; 2],
}

/// The parts of the method that the paper takes away one at a time: a name in files, a flag.
pub const ABLATIONS: [(&str, &str); 4] = [
    ("no-filter", "--no-filter"),
    ("no-tta", "--no-tta"),
    ("no-l2sp", "--no-l2sp"),
    ("no-strong", "--no-strong"),
];

/// A table or figure of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Scores of base and fine-tuned models.
    Table1,
    /// Ablations.
    Table2,
    /// Criteria along the runs.
    Figure2,
    /// Images before and after adaptation.
    Figure3,
}

/// From which model an adaptation starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The pretrained one.
    Base,
    /// The one that learned from labels.
    Tuned,
}

/// Where runs go and how long they are.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Runs go to folders in this one.
    pub runs: &'a Path,
    /// Their length.
    pub scale: &'a Scale,
    /// Seeds 0, 1, ...
    pub seeds: u64,
}

impl Plan<'_> {
    /// All runs of a part. One seed after the other: what is there after an interruption makes whole tables of fewer
    /// seeds.
    pub fn jobs(&self, parts: &[(Part, &[Domain])]) -> Vec<Job> {
        let of_seed = |seed| {
            let domains = parts
                .iter()
                .flat_map(|(part, domains)| domains.iter().map(move |domain| (*part, domain)));
            domains.flat_map(move |(part, domain)| domain.jobs(part, self, seed))
        };
        (0..self.seeds).flat_map(of_seed).collect()
    }
}

/// The runs of a domain that a table is made from, one a seed each.
#[derive(Clone, Debug)]
pub struct Results {
    /// From the pretrained model.
    pub base: Vec<Record>,
    /// From the fine-tuned model.
    pub tuned: Vec<Record>,
    /// Seconds of the trainings; empty where the fine-tuned model is others'.
    pub training: Vec<f64>,
}

impl Domain {
    /// The runs of one seed that a part of the paper needs.
    pub fn jobs(&self, part: Part, plan: &Plan, seed: u64) -> Vec<Job> {
        let mut jobs = vec![self.adaptation(plan, Start::Base, None, seed)];
        match part {
            Part::Table1 => {
                if self.tuned == Tuned::Here {
                    jobs.push(self.training(plan, seed));
                }
                jobs.push(self.adaptation(plan, Start::Tuned, None, seed));
            }
            Part::Table2 => {
                let without = |ablation| self.adaptation(plan, Start::Base, Some(ablation), seed);
                jobs.extend(ABLATIONS.iter().map(without));
            }
            Part::Figure2 | Part::Figure3 => {}
        }
        jobs
    }

    /// Reads the runs of Table 1.
    ///
    /// # Errors
    /// If one is not finished.
    pub fn results(&self, plan: &Plan) -> Outcome<Results> {
        let seeds = 0..plan.seeds;
        let training = match &self.tuned {
            Tuned::Here => seeds
                .map(|seed| record::seconds(&self.training(plan, seed).run))
                .collect::<Outcome<_>>()?,
            Tuned::Checkpoint(_) => Vec::new(),
        };
        Ok(Results {
            base: self.records(plan, Start::Base, None)?,
            tuned: self.records(plan, Start::Tuned, None)?,
            training,
        })
    }

    /// Reads adaptations, one a seed.
    ///
    /// # Errors
    /// If one is not finished.
    pub fn records(
        &self,
        plan: &Plan,
        start: Start,
        ablation: Option<&(&'static str, &'static str)>,
    ) -> Outcome<Vec<Record>> {
        let seeds = 0..plan.seeds;
        seeds
            .map(|seed| record::read(&self.adaptation(plan, start, ablation, seed).run))
            .collect()
    }

    /// An adaptation that goes on to its last step and reads every criterion and the score on its way: wherever a
    /// criterion would have stopped it can be read off.
    pub fn adaptation(
        &self,
        plan: &Plan,
        start: Start,
        ablation: Option<&(&'static str, &'static str)>,
        seed: u64,
    ) -> Job {
        let (name, words, model, sizing, level) = match start {
            Start::Base => (
                "base",
                "from the pretrained model",
                self.model.clone(),
                self.sizing.as_slice(),
                self.l2sp[0],
            ),
            Start::Tuned => (
                "tuned",
                "from the fine-tuned model",
                match &self.tuned {
                    Tuned::Checkpoint(file) => file.clone(),
                    Tuned::Here => self.training(plan, seed).run,
                },
                &[][..],
                self.l2sp[1],
            ),
        };
        let (name, words) = match ablation {
            Some((name, flag)) => (*name, *flag),
            None => (name, words),
        };
        let mut flags = plan.scale.flags();
        flags.extend([
            "--no-stop".to_owned(),
            "--seed".to_owned(),
            seed.to_string(),
        ]);
        flags.extend(["--channels".to_owned(), self.channels.to_owned()]);
        flags.extend_from_slice(sizing);
        flags.extend(ablation.map(|(_, flag)| (*flag).to_owned()));
        Job {
            title: format!("{}, adaptation {words}, seed {seed}", self.title),
            kind: Kind::Adapt,
            run: plan.runs.join(format!("{}-{name}-{seed}", self.name)),
            model,
            images: self.folder.join("adapt"),
            truth: Some(self.folder.join("score")),
            flags,
            config: plan.scale.adapt(level),
        }
    }

    /// Fine-tuning on the labels of the images that are adapted to.
    pub fn training(&self, plan: &Plan, seed: u64) -> Job {
        let channels = self.channels.to_owned();
        Job {
            title: format!("{}, training from labels, seed {seed}", self.title),
            kind: Kind::Train,
            run: plan.runs.join(format!("{}-train-{seed}", self.name)),
            model: self.model.clone(),
            images: self.folder.join("labelled"),
            truth: None,
            flags: vec![
                "--seed".into(),
                seed.to_string(),
                "--channels".into(),
                channels,
            ],
            config: plan.scale.train(),
        }
    }
}
