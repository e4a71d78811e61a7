//! What a finished run of `selfadapt adapt` left: its readings, thresholds and times.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::folders;
use crate::steps::Outcome;

/// One look at the network that would be delivered. A number that is not one is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// After how many steps; 0 is the untouched model.
    pub step: u64,
    /// Every criterion by name.
    pub drifts: BTreeMap<String, f64>,
    /// AP at IoU 0.5 against the given labels, mean over images.
    pub ap50: f64,
    /// The same at IoU 0.75.
    pub ap75: f64,
    /// Cellpose's aggregated Jaccard index, mean over images.
    pub aji: f64,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// In the order of steps; the first is that of the untouched model.
    pub readings: Vec<Reading>,
    /// Criteria that may stop a run, and what each allows.
    pub thresholds: BTreeMap<String, f64>,
    /// The step whose weights the run delivered.
    pub delivered_step: u64,
    /// What ended it.
    pub stopped_by: String,
    /// Wall time; of the last part, where the run was interrupted.
    pub seconds: f64,
}

/// Reads a run folder.
///
/// # Errors
/// If a file is missing or damaged, or nothing was read.
pub fn read(run: &Path) -> Outcome<Record> {
    let manifest = json(&run.join("manifest.json"))?;
    let path = run.join("run.jsonl");
    // A run that had to go back reads a step again: the later reading counts.
    let mut readings = BTreeMap::new();
    for line in folders::read(&path)?.lines() {
        let line: Value =
            serde_json::from_str(line).map_err(|e| format!("{}: {e}", path.display()))?;
        if line["kind"] == "reading" {
            let reading = reading(&line);
            readings.insert(reading.step, reading);
        }
    }
    if !readings.contains_key(&0) {
        return Err(format!(
            "{}: expected a reading of the untouched model, found none",
            path.display()
        ));
    }
    Ok(Record {
        readings: readings.into_values().collect(),
        thresholds: thresholds(&run.join("config.toml"))?,
        delivered_step: manifest["delivered_step"].as_u64().unwrap_or(0),
        stopped_by: manifest["stopped_by"].as_str().unwrap_or("").to_owned(),
        seconds: number(&manifest["seconds"]),
    })
}

/// Seconds that a finished run took.
///
/// # Errors
/// If it has no manifest.
pub fn seconds(run: &Path) -> Outcome<f64> {
    Ok(number(&json(&run.join("manifest.json"))?["seconds"]))
}

fn json(path: &Path) -> Outcome<Value> {
    serde_json::from_str(&folders::read(path)?).map_err(|e| format!("{}: {e}", path.display()))
}

fn reading(line: &Value) -> Reading {
    let truth = &line["truth"];
    Reading {
        step: line["step"].as_u64().unwrap_or(0),
        drifts: line["drifts"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, drift)| (name.clone(), number(drift)))
            .collect(),
        ap50: number(&truth["ap50"]),
        ap75: number(&truth["ap75"]),
        aji: number(&truth["aji"]),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The criteria of a run's settings that have a threshold.
fn thresholds(path: &Path) -> Outcome<BTreeMap<String, f64>> {
    let settings: toml::Table = folders::read(path)?
        .parse()
        .map_err(|e| format!("{}: {e}", path.display()))?;
    let watch = settings.get("watch");
    let criteria = watch.and_then(|watch| watch.get("criteria")?.as_array());
    let of = |criterion: &toml::Value| {
        let name = criterion.get("criterion")?.as_str()?.to_owned();
        Some((name, criterion.get("threshold")?.as_float()?))
    };
    Ok(criteria.into_iter().flatten().filter_map(of).collect())
}
