//! Where a run that was not stopped would have been, read off its record.

use std::fmt::Write;

use crate::experiment::record::{Reading, Record};
use crate::steps::Outcome;

/// The paper's two criteria, as they are named in records.
const FALSE_NEGATIVES: &str = "false-negative-rate";
const EMBEDDING: &str = "embedding-distance";

/// Which snapshot of a run counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The untouched model.
    Before,
    /// The last one within the threshold of the false negative rate.
    FalseNegatives,
    /// The last one within the threshold of the embedding distance.
    Embedding,
    /// The last one within every threshold: what the program itself delivers.
    Every,
    /// The one with the highest AP at IoU 0.5 on the scored images: an oracle, which needs their labels.
    TestMax,
    /// The last one.
    End,
}

/// The columns of [`scores`], behind those of its key.
pub const SCORES: &str = "stop,seed,step,ap50,ap75,aji,seconds";

/// Lines of a result file: the scores of each seed where `stop` would have ended its run. `key` begins each.
///
/// # Errors
/// As [`Stop::of`].
pub fn scores(text: &mut String, key: &str, stop: Stop, records: &[Record]) -> Outcome {
    for (seed, record) in records.iter().enumerate() {
        let reading = stop.of(record)?;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{key},{},{seed},{},{:.4},{:.4},{:.4},{:.1}",
            stop.name(),
            reading.step,
            reading.ap50,
            reading.ap75,
            reading.aji,
            record.seconds
        );
    }
    Ok(())
}

impl Stop {
    /// In result files, and among the paper's numbers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Before => "none",
            Self::FalseNegatives => "fn",
            Self::Embedding => "emb",
            Self::Every => "every",
            Self::TestMax => "test-max",
            Self::End => "end",
        }
    }

    /// The snapshot that this stop delivers.
    ///
    /// # Errors
    /// If the run had no threshold for the criterion, or recorded nothing.
    pub fn of(self, record: &Record) -> Outcome<&Reading> {
        let readings = &record.readings;
        let found = match self {
            Self::Before => readings.first(),
            Self::End => readings.last(),
            Self::TestMax => readings
                .iter()
                // The first of equals.
                .rev()
                .max_by(|a, b| a.ap50.total_cmp(&b.ap50)),
            Self::FalseNegatives => return within(record, &[FALSE_NEGATIVES]),
            Self::Embedding => return within(record, &[EMBEDDING]),
            Self::Every => {
                let all: Vec<&str> = record.thresholds.keys().map(String::as_str).collect();
                return within(record, &all);
            }
        };
        found.ok_or_else(|| "a run without a reading".into())
    }
}

/// The last reading before the first that crosses a threshold of `criteria`.
fn within<'a>(record: &'a Record, criteria: &[&str]) -> Outcome<&'a Reading> {
    for name in criteria {
        if !record.thresholds.contains_key(*name) {
            return Err(format!(
                "{name}: the run's settings have no threshold for it"
            ));
        }
    }
    let crosses = |reading: &Reading| {
        criteria.iter().any(|name| {
            let drift = reading.drifts.get(*name).copied().unwrap_or(f64::NAN);
            // As in the program: a drift that is not a number is not within any threshold.
            drift.is_nan() || drift > record.thresholds[*name]
        })
    };
    let first = record.readings.first();
    // The untouched model is not judged: it has not drifted.
    let later = record.readings.iter().skip(1);
    let kept = later.take_while(|reading| !crosses(reading)).last();
    kept.or(first)
        .ok_or_else(|| "a run without a reading".into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// AP at 0.5 and the two criteria of each reading, ten steps apart.
    fn record(rows: &[[f64; 3]]) -> Record {
        let reading = |(index, row): (usize, &[f64; 3])| Reading {
            step: 10 * index as u64,
            drifts: BTreeMap::from([
                (FALSE_NEGATIVES.to_owned(), row[1]),
                (EMBEDDING.to_owned(), row[2]),
            ]),
            ap50: row[0],
            ap75: 0.,
            aji: 0.,
        };
        Record {
            readings: rows.iter().enumerate().map(reading).collect(),
            thresholds: BTreeMap::from([
                (FALSE_NEGATIVES.to_owned(), 0.25),
                (EMBEDDING.to_owned(), 20.),
            ]),
            delivered_step: 0,
            stopped_by: String::new(),
            seconds: 1.,
        }
    }

    #[test]
    fn each_stop_takes_its_own_snapshot() {
        let run = record(&[
            [0.5, 0., 0.],
            [0.6, 0.1, 12.],
            [0.7, 0.2, 21.],
            [0.65, 0.3, 15.],
            [0.9, 0.1, 5.],
        ]);
        let step = |stop: Stop| stop.of(&run).unwrap().step;
        assert_eq!(step(Stop::Before), 0);
        assert_eq!(step(Stop::FalseNegatives), 20);
        assert_eq!(step(Stop::Embedding), 10);
        assert_eq!(step(Stop::Every), 10);
        assert_eq!(step(Stop::TestMax), 40);
        assert_eq!(step(Stop::End), 40);
    }

    #[test]
    fn a_crossing_at_the_first_look_keeps_the_model_and_none_keeps_the_last() {
        let at_once = record(&[[0.5, 0., 0.], [0.6, 0.3, 1.], [0.6, 0.1, 1.]]);
        assert_eq!(Stop::FalseNegatives.of(&at_once).unwrap().step, 0);
        assert_eq!(Stop::Embedding.of(&at_once).unwrap().step, 20);
        let broken = record(&[[0.5, 0., 0.], [0.6, f64::NAN, 1.]]);
        assert_eq!(Stop::FalseNegatives.of(&broken).unwrap().step, 0);
    }

    #[test]
    fn of_equal_scores_the_earlier_is_the_oracles() {
        let run = record(&[[0.5, 0., 0.], [0.6, 0.1, 1.], [0.6, 0.1, 1.]]);
        assert_eq!(Stop::TestMax.of(&run).unwrap().step, 10);
    }
}
