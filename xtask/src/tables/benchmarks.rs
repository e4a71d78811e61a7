//! The paper's three benchmarks, from the data sets as their authors publish them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::domain::{Domain, Tuned};
use super::scale::Scale;
use crate::experiment::folders::{make, put, stems, write};
use crate::experiment::program::Program;
use crate::steps::Outcome;

/// One benchmark, and the models that the paper meets it with.
struct Benchmark {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    /// The data set's folder in `--data`, and `selfadapt dataset --kind`.
    kind: &'static str,
    compartment: Option<&'static str>,
    channels: &'static str,
    base: &'static str,
    /// Cellpose 2.0's own checkpoint for it, where there is one.
    tuned: Option<&'static str>,
    l2sp: [&'static str; 2],
}

const BENCHMARKS: [Benchmark; 3] = [
    Benchmark {
        name: "livecell",
        title: "LIVECell",
        about: "Cells in phase contrast, `cyto2` and Cellpose 2.0's `livecell`.",
        kind: "livecell",
        compartment: None,
        channels: "0,0",
        base: "cyto2",
        tuned: Some("livecell"),
        l2sp: ["moderate", "weak"],
    },
    Benchmark {
        name: "tissuenet-cyto",
        title: "TissueNet, whole cells",
        about: "Whole cells of multiplexed tissue, `cyto2` and Cellpose 2.0's `tissuenet`.",
        kind: "tissuenet",
        compartment: Some("whole-cell"),
        channels: "2,1",
        base: "cyto2",
        tuned: Some("tissuenet"),
        l2sp: ["moderate", "strong"],
    },
    Benchmark {
        name: "tissuenet-nuclei",
        title: "TissueNet, nuclei",
        about: "Nuclei of multiplexed tissue, `nuclei`. The paper has no fine-tuned model here; ours learns from the labels.",
        kind: "tissuenet",
        compartment: Some("nuclear"),
        channels: "1,0",
        base: "nuclei",
        tuned: None,
        l2sp: ["strong", "strong"],
    },
];

/// Prepares the benchmarks: adapted to on the official training sets, scored on the test sets, as in the paper.
///
/// # Errors
/// If a data set or a model is not where it is expected, or cannot be read.
pub fn domains(
    program: &Program,
    data: &Path,
    weights: &Path,
    sets: &Path,
    scale: &Scale,
    only: &[String],
) -> Outcome<Vec<Domain>> {
    let names: Vec<&str> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
    if let Some(other) = only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!(
            "--only {other}: expected one of {}",
            names.join(", ")
        ));
    }
    let wanted =
        |benchmark: &&Benchmark| only.is_empty() || only.iter().any(|name| name == benchmark.name);
    BENCHMARKS
        .iter()
        .filter(wanted)
        .map(|benchmark| benchmark.domain(program, data, weights, sets, scale))
        .collect()
}

impl Benchmark {
    fn domain(
        &self,
        program: &Program,
        data: &Path,
        weights: &Path,
        sets: &Path,
        scale: &Scale,
    ) -> Outcome<Domain> {
        let folder = sets.join(format!("{}-{}-{}", self.name, scale.adapted, scale.scored));
        let from = data.join(self.kind);
        if !from.is_dir() {
            return Err(format!(
                "{}: expected the data set there; docs/reproducing.md says where it is from",
                from.display()
            ));
        }
        let train = self.split(program, &from, &folder, "train", scale.adapted)?;
        let test = self.split(program, &from, &folder, "test", scale.scored)?;
        lay_out(&train, &folder.join("labelled"), true)?;
        lay_out(&train, &folder.join("adapt"), false)?;
        lay_out(&test, &folder.join("score"), true)?;
        let tuned = match self.tuned.map(|name| checkpoint(weights, name)) {
            Some(Ok(file)) => Tuned::Checkpoint(file),
            Some(Err(reason)) => {
                println!(
                    "{}: {reason}: its fine-tuned model is trained here",
                    self.title
                );
                Tuned::Here
            }
            None => Tuned::Here,
        };
        let [base, fine] = self.l2sp;
        Ok(Domain {
            name: self.name.into(),
            title: self.title.into(),
            about: self.about.into(),
            folder,
            model: checkpoint(weights, self.base)?,
            sizing: Vec::new(),
            channels: self.channels,
            tuned,
            l2sp: [Some(base), Some(fine)],
        })
    }

    /// A split as `selfadapt dataset` writes it: `images/` and `labels/`.
    fn split(
        &self,
        program: &Program,
        from: &Path,
        folder: &Path,
        split: &str,
        limit: usize,
    ) -> Outcome<PathBuf> {
        let to = folder.join("data").join(split);
        if is_complete(&to) {
            return Ok(to);
        }
        println!("{}: reading the {split} split", self.title);
        let mut arguments: Vec<OsString> = vec!["dataset".into(), from.into()];
        let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        flag("--out", to.clone().into());
        flag("--kind", self.kind.into());
        flag("--split", split.into());
        if let Some(compartment) = self.compartment {
            flag("--compartment", compartment.into());
        }
        if limit > 0 {
            flag("--limit", limit.to_string().into());
        }
        program.run(arguments)?;
        Ok(to)
    }
}

/// A model's file, under the names that Cellpose and others save it.
fn checkpoint(weights: &Path, name: &str) -> Outcome<PathBuf> {
    let names = ["", "torch_0", ".safetensors", ".pt"].map(|end| format!("{name}{end}"));
    let mut files = names.iter().map(|file| weights.join(file));
    files.find(|file| file.is_file()).ok_or_else(|| {
        format!(
            "{}: expected a file {} there",
            weights.display(),
            names.join(" or ")
        )
    })
}

/// Whether `selfadapt dataset` came to its end; an interrupted one goes on when it is given again.
fn is_complete(to: &Path) -> bool {
    let manifest = std::fs::read_to_string(to.join("dataset.json"));
    let manifest = manifest.map(|text| serde_json::from_str::<Value>(&text));
    matches!(manifest, Ok(Ok(manifest)) if manifest["complete"] == true)
}

/// Puts images, and with `labels` theirs, into one folder.
fn lay_out(from: &Path, to: &Path, labels: bool) -> Outcome {
    let complete = to.with_extension("complete");
    if complete.is_file() {
        return Ok(());
    }
    make(to)?;
    for stem in stems(&from.join("images"))? {
        let file = format!("{stem}.tif");
        put(&from.join("images").join(&file), &to.join(&file))?;
        if labels {
            let masks = format!("{stem}_masks.tif");
            put(&from.join("labels").join(&masks), &to.join(masks))?;
        }
    }
    write(&complete, "")
}
