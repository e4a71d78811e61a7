//! Tables of a calibration: scores of base, delivered, best and last weights, and every criterion beside them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::experiment::record::{self, Reading};
use crate::steps::Outcome;

/// One run's results.
#[derive(Debug)]
pub struct Row {
    set: String,
    setting: String,
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
    Ok(Row {
        set: set.to_owned(),
        setting: setting.to_owned(),
        seed,
        base: scores(first),
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

/// Writes `table.csv` and `table.md`, and prints the latter.
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
    print!("{text}");
    for (name, content) in [("table.csv", csv), ("table.md", text)] {
        let path = folder.join(name);
        std::fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}
