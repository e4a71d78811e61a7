//! Table 1: the pretrained and the fine-tuned model before and after adaptation, by what would have stopped it.

use std::fmt::Write;

use super::domain::{Domain, Results, Start, Tuned};
use super::paper::Paper;
use super::stops::{SCORES, Stop, scores};
use crate::experiment::numbers::{Spread, difference, markdown, share};
use crate::experiment::record::Record;
use crate::steps::Outcome;

/// The rows below each model.
const STOPS: [Stop; 5] = [
    Stop::Before,
    Stop::FalseNegatives,
    Stop::Embedding,
    Stop::Every,
    Stop::TestMax,
];

/// A row: one model and stop, over seeds.
#[derive(Clone, Debug)]
struct Row {
    start: Start,
    stop: Stop,
    ap50: Spread,
    ap75: Spread,
    aji: Spread,
    step: f64,
    seconds: Spread,
}

/// The table as a page: a part for each domain.
///
/// # Errors
/// If a run has no threshold for a criterion.
pub fn page(all: &[(&Domain, Results)], paper: Option<&Paper>) -> Outcome<String> {
    let mut text = String::new();
    for (domain, results) in all {
        let rows = rows(results)?;
        let table = table(&rows, &domain.name, paper);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "## {}\n\n{}\n\n{table}", domain.title, domain.about);
        if let (Tuned::Here, false) = (&domain.tuned, results.training.is_empty()) {
            let seconds = Spread::of(&results.training).mean;
            let _ = writeln!(text, "Training from labels took {seconds:.0} s a seed.\n");
        }
    }
    Ok(text)
}

/// Every score of every seed.
///
/// # Errors
/// If a run has no threshold for a criterion.
pub fn csv(all: &[(&Domain, Results)]) -> Outcome<String> {
    let mut text = format!("set,start,{SCORES}\n");
    for (domain, results) in all {
        for (start, records) in [(Start::Base, &results.base), (Start::Tuned, &results.tuned)] {
            let key = format!("{},{}", domain.name, key(start));
            for stop in STOPS.into_iter().chain([Stop::End]) {
                scores(&mut text, &key, stop, records)?;
            }
        }
    }
    Ok(text)
}

fn rows(results: &Results) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for (start, records) in [(Start::Base, &results.base), (Start::Tuned, &results.tuned)] {
        for stop in STOPS {
            rows.push(row(start, stop, records)?);
        }
    }
    Ok(rows)
}

fn row(start: Start, stop: Stop, records: &[Record]) -> Outcome<Row> {
    let readings = records
        .iter()
        .map(|record| stop.of(record))
        .collect::<Outcome<Vec<_>>>()?;
    let over = |values: Vec<f64>| Spread::of(&values);
    Ok(Row {
        start,
        stop,
        ap50: over(readings.iter().map(|reading| reading.ap50).collect()),
        ap75: over(readings.iter().map(|reading| reading.ap75).collect()),
        aji: over(readings.iter().map(|reading| reading.aji).collect()),
        step: over(readings.iter().map(|reading| reading.step as f64).collect()).mean,
        seconds: over(records.iter().map(|record| record.seconds).collect()),
    })
}

/// AP at IoU 0.5 of a row.
fn ap50(rows: &[Row], start: Start, stop: Stop) -> f64 {
    let mut all = rows.iter();
    let found = all.find(|row| row.start == start && row.stop == stop);
    found.map_or(f64::NAN, |row| row.ap50.mean)
}

/// What a row gained: its share of the oracle's gain, and of the way to the model that learned from labels.
fn shares(rows: &[Row], row: &Row) -> [String; 2] {
    if row.stop == Stop::Before {
        return [String::new(), String::new()];
    }
    let from = ap50(rows, row.start, Stop::Before);
    let captured = match row.stop {
        Stop::TestMax => String::new(),
        _ => share(from, ap50(rows, row.start, Stop::TestMax), row.ap50.mean),
    };
    let closed = match row.start {
        Start::Base => share(from, ap50(rows, Start::Tuned, Stop::Before), row.ap50.mean),
        Start::Tuned => String::new(),
    };
    [captured, closed]
}

/// The rows as Markdown; with `paper` its numbers for the set of that name stand beside ours.
fn table(rows: &[Row], set: &str, paper: Option<&Paper>) -> String {
    let mut head = vec!["model", "AP@0.5"];
    if paper.is_some() {
        head.extend(["paper", "difference"]);
    }
    head.extend(["AP@0.75", "AJI", "step", "of the oracle's gain"]);
    if paper.is_some() {
        head.push("paper");
    }
    head.extend(["of the way to labels", "s"]);
    let cells = rows.iter().map(|row| {
        let [captured, closed] = shares(rows, row);
        let printed = paper.map(|paper| Printed::at(paper, set, row));
        let mut cells = vec![words(row), row.ap50.score()];
        if let Some(printed) = &printed {
            cells.extend([printed.score(), printed.apart(row)]);
        }
        let (step, seconds) = match row.stop {
            Stop::Before => (String::new(), String::new()),
            _ => (
                format!("{:.0}", row.step),
                format!("{:.0}", row.seconds.mean),
            ),
        };
        cells.extend([row.ap75.score(), row.aji.score(), step, captured]);
        cells.extend(printed.map(|printed| printed.captured));
        cells.extend([closed, seconds]);
        cells
    });
    markdown(&head, 1, &cells.collect::<Vec<_>>())
}

/// What the paper prints for a row.
struct Printed {
    ap50: Option<Spread>,
    /// The share of its oracle's gain.
    captured: String,
}

impl Printed {
    fn at(paper: &Paper, set: &str, row: &Row) -> Self {
        let of = |stop: Stop| {
            let found = paper.at(&[key(row.start), stop.name(), set]);
            found.first().copied()
        };
        let mean = |stop| of(stop).map_or(f64::NAN, |found| found.mean);
        let captured = match row.stop {
            Stop::FalseNegatives | Stop::Embedding => {
                share(mean(Stop::Before), mean(Stop::TestMax), mean(row.stop))
            }
            _ => String::new(),
        };
        Self {
            ap50: of(row.stop),
            captured,
        }
    }

    fn score(&self) -> String {
        self.ap50
            .map_or_else(|| "n/a".into(), |found| found.score())
    }

    fn apart(&self, row: &Row) -> String {
        let apart = |found: Spread| difference(row.ap50.mean - found.mean);
        self.ap50.map_or_else(String::new, apart)
    }
}

fn key(start: Start) -> &'static str {
    match start {
        Start::Base => "base",
        Start::Tuned => "tuned",
    }
}

fn words(row: &Row) -> String {
    let stop = match row.stop {
        Stop::Before if row.start == Start::Base => return "pretrained model".into(),
        Stop::Before => return "fine-tuned on labels".into(),
        Stop::FalseNegatives => "FN rate",
        Stop::Embedding => "embedding distance",
        Stop::Every => "every threshold of ours",
        Stop::TestMax => return "+ SelfAdapt (Test Max, an oracle)".into(),
        Stop::End => return "+ SelfAdapt (last step)".into(),
    };
    format!("+ SelfAdapt (stop: {stop})")
}
