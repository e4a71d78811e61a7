//! Tables of a calibration: scores of base, delivered, best and last weights, and every criterion beside them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use super::summary;
use crate::experiment::record::{self, Reading};
use crate::steps::Outcome;

/// One run's results.
#[derive(Debug)]
pub struct Row {
    pub(super) set: String,
    pub(super) setting: String,
    seed: u64,
    /// AP at 0.5 and 0.75.
    base: [f64; 2],
    delivered: [f64; 2],
    /// The reading with the highest AP at 0.5.
    best: [f64; 2],
    last: [f64; 2],
    delivered_step: u64,
    best_step: u64,
    stopped_by: String,
    seconds: f64,
    /// Every criterion at the last reading.
    drifts: BTreeMap<String, f64>,
    /// By how much AP at 0.5 and 0.75 had changed at each look of the run.
    pub(super) looks: Vec<[f64; 2]>,
}

impl Row {
    /// By how much what is delivered differs from the model that the run began with.
    pub(super) fn change(&self) -> [f64; 2] {
        [0, 1].map(|k| self.delivered[k] - self.base[k])
    }
}

/// Reads a finished run.
///
/// # Errors
/// If its record or manifest cannot be read.
pub fn row(set: &str, setting: &str, seed: u64, run: &Path) -> Outcome<Row> {
    let record = record::read(run)?;
    let scores = |reading: &Reading| [reading.ap50, reading.ap75];
    let nothing = "a run without a reading";
    let first = record.readings.first().ok_or(nothing)?;
    let last = record.readings.last().ok_or(nothing)?;
    let mut readings = record.readings.iter();
    let delivered = readings.find(|reading| reading.step == record.delivered_step);
    let readings = record.readings.iter();
    let best = readings.max_by(|a, b| a.ap50.total_cmp(&b.ap50));
    let best = best.unwrap_or(first);
    let base = scores(first);
    let looks = record.readings.iter().map(scores);
    let looks = looks.map(|look| [0, 1].map(|k| look[k] - base[k]));
    Ok(Row {
        looks: looks.collect(),
        set: set.to_owned(),
        setting: setting.to_owned(),
        seed,
        base,
        delivered: scores(delivered.unwrap_or(first)),
        best: scores(best),
        last: scores(last),
        delivered_step: record.delivered_step,
        best_step: best.step,
        stopped_by: record.stopped_by,
        seconds: record.seconds,
        drifts: last.drifts.clone(),
    })
}

/// Writes `table.csv` and `table.md` (with the summary below the runs), and prints the latter.
///
/// # Errors
/// If a file cannot be written.
pub fn write(folder: &Path, rows: &[Row]) -> Outcome {
    let names: Vec<&String> = rows
        .first()
        .map_or(Vec::new(), |row| row.drifts.keys().collect());
    let mut csv = "set,setting,seed,base50,base75,delivered50,delivered75,best50,best75,last50,last75,delivered_step,best_step,stopped_by,seconds".to_owned();
    for name in &names {
        csv.push(',');
        csv.push_str(name);
    }
    csv.push('\n');
    let mut text = "| set | setting | seed | base .5 / .75 | delivered | best (step) | last | delivered step | stopped by | s |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n".to_owned();
    for row in rows {
        // Writing to a string cannot fail.
        let _ = write!(csv, "{},{},{}", row.set, row.setting, row.seed);
        for pair in [row.base, row.delivered, row.best, row.last] {
            let _ = write!(csv, ",{:.4},{:.4}", pair[0], pair[1]);
        }
        let _ = write!(
            csv,
            ",{},{},{},{:.1}",
            row.delivered_step, row.best_step, row.stopped_by, row.seconds
        );
        for name in &names {
            let _ = write!(
                csv,
                ",{:.4}",
                row.drifts.get(*name).copied().unwrap_or(f64::NAN)
            );
        }
        csv.push('\n');
        let pair = |p: [f64; 2]| format!("{:.3} / {:.3}", p[0], p[1]);
        let change = |p: [f64; 2]| {
            format!(
                "{:.3} ({:+.3}) / {:.3} ({:+.3})",
                p[0],
                p[0] - row.base[0],
                p[1],
                p[1] - row.base[1]
            )
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} ({}) | {} | {} | {} | {:.0} |",
            row.set,
            row.setting,
            row.seed,
            pair(row.base),
            change(row.delivered),
            pair(row.best),
            row.best_step,
            pair(row.last),
            row.delivered_step,
            row.stopped_by,
            row.seconds
        );
    }
    text.push('\n');
    text.push_str(&summary::markdown(rows));
    print!("{text}");
    for (name, content) in [("table.csv", csv), ("table.md", text)] {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run from `[.5, .3]` that delivers `change` and had `looks`.
    pub(in crate::calibrate) fn row(
        set: &str,
        setting: &str,
        change: [f64; 2],
        looks: &[[f64; 2]],
    ) -> Row {
        let base = [0.5, 0.3];
        let delivered = [0, 1].map(|k| base[k] + change[k]);
        Row {
            set: set.to_owned(),
            setting: setting.to_owned(),
            seed: 0,
            base,
            delivered,
            best: delivered,
            last: delivered,
            delivered_step: 30,
            best_step: 30,
            stopped_by: String::new(),
            seconds: 1.,
            drifts: BTreeMap::new(),
            looks: looks.to_vec(),
        }
    }
}
