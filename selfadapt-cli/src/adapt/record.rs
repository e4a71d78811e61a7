//! run.jsonl: one line a step, a reading, or anything else that happened.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;

use selfadapt_core::adapt::StepReport;
use selfadapt_core::choice::{Decision, Mode};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::hold::Held;
use selfadapt_core::outlines::Fit;
use selfadapt_core::run::Look;
use selfadapt_core::stop::Verdict;
use serde::{Deserialize, Serialize};

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Line {
    /// A step was taken.
    Step(StepReport),
    /// The validation crops were looked at.
    Reading(ReadingLine),
    /// The untouched model's outlines were compared with the images' edges.
    Outlines(OutlinesLine),
    /// A mode was tried before the run.
    Trial(TrialLine),
    /// The trials decided.
    Choice {
        /// What to do.
        decision: Decision,
        /// Wall time of the trials that were not taken.
        seconds: f64,
        /// How much what the trials find disagrees, 0 for the same instances and 1 for none in common; the mean over pairs of
        /// trials, absent of a single one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disagreement: Option<f64>,
    },
    /// A loss was not a number.
    WentBack {
        /// The step that the run went back to.
        step: usize,
        /// What was wrong.
        reason: String,
    },
}

/// How outlines lay, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlinesLine {
    /// Whether the run learns from fitted ones.
    pub fitted: bool,
    /// What was seen.
    #[serde(flatten)]
    pub fit: Fit,
}

/// A trial, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialLine {
    /// How it adapted.
    pub mode: Mode,
    /// What its network looked like at its end; none where a loss was not a number.
    pub reading: Option<ReadingLine>,
    /// The sum that trials are compared by; lower is better, below zero is better than the untouched model. None where
    /// a threshold was crossed.
    pub score: Option<f64>,
    /// Wall time.
    pub seconds: f64,
}

/// A reading, as recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReadingLine {
    /// After how many steps.
    pub step: usize,
    /// Every criterion by name; `null` where it is not a number.
    pub drifts: BTreeMap<String, Option<f64>>,
    /// Instances found on the validation crops.
    pub instances: usize,
    /// By how much the foreground's bias was lowered before, so that cells are not drawn larger than at first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<f64>,
    /// By what factor lengths were multiplied before, so that cells are drawn neither smaller nor larger than at first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stretched: Option<f64>,
    /// The criterion that crossed its threshold, if one did.
    pub crossed: Option<String>,
    /// Scores against labels, where the run was given some.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub truth: Option<TruthLine>,
}

impl ReadingLine {
    /// A look as it is recorded.
    pub fn new(look: &Look, truth: Option<TruthLine>) -> Self {
        let (held, stretched) = match look.held {
            Held::Nothing => (None, None),
            Held::Lowered(fall) => (Some(fall), None),
            Held::Stretched(factor) => (None, Some(factor)),
        };
        Self {
            step: look.step,
            drifts: look
                .drifts
                .iter()
                .map(|(name, drift)| ((*name).to_owned(), drift.is_finite().then_some(*drift)))
                .collect(),
            instances: look.found(),
            held,
            stretched,
            crossed: match look.verdict {
                Verdict::Crossed { criterion, .. } => Some(criterion.to_owned()),
                Verdict::Continue => None,
            },
            truth,
        }
    }
}

/// Scores against labels that the run never learns from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TruthLine {
    /// Mean average precision over images at IoU 0.5.
    pub ap50: f64,
    /// Mean average precision over images at IoU 0.75.
    pub ap75: f64,
    /// Cellpose's aggregated Jaccard index, its mean over images; older records have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aji: Option<f64>,
}

/// An open record.
#[derive(Debug)]
pub struct Record {
    file: File,
    path: std::path::PathBuf,
}

impl Record {
    /// Begins the record of a new run; what a run left that never got as far as a saved state goes.
    pub fn begin(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::write(path, e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Opens a record for the part of a run that starts after `step`, dropping what a broken-off run wrote beyond it.
    pub fn open(path: &Path, step: usize) -> Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Error::write(path, e))?;
        let keep = length_up_to(&file, step).map_err(|e| Error::read(path, e))?;
        file.set_len(keep).map_err(|e| Error::write(path, e))?;
        file.seek(SeekFrom::End(0))
            .map_err(|e| Error::write(path, e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Appends a line and hands it to the system at once.
    pub fn push(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line).map_err(|e| Error::write(&self.path, e))?;
        text.push('\n');
        self.file
            .write_all(text.as_bytes())
            .map_err(|e| Error::write(&self.path, e))
    }

    /// Makes sure that what was appended survives a power cut.
    pub fn sync(&self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|e| Error::write(&self.path, e))
    }
}

/// Reads a whole record; a last line that was cut off is left out.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let mut lines = Vec::new();
    for (number, text) in BufReader::new(file).lines().enumerate() {
        let text = text.map_err(|e| Error::read(path, e))?;
        match serde_json::from_str(&text) {
            Ok(line) => lines.push(line),
            Err(error) if error.is_eof() => break,
            Err(error) => {
                return Err(Error::read(path, format!("line {}: {error}", number + 1)));
            }
        }
    }
    Ok(lines)
}

/// Bytes of the lines that belong to steps up to `step`.
fn length_up_to(file: &File, step: usize) -> std::io::Result<u64> {
    let mut length = 0;
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    loop {
        text.clear();
        let bytes = reader.read_line(&mut text)?;
        let of = match serde_json::from_str::<Line>(&text) {
            Ok(Line::Step(report)) => report.step,
            Ok(Line::Reading(reading)) => reading.step,
            Ok(Line::WentBack { step, .. }) => step,
            Ok(Line::Outlines(_) | Line::Trial(_) | Line::Choice { .. }) => 0,
            Err(_) => break,
        };
        if bytes == 0 || of > step || !text.ends_with('\n') {
            break;
        }
        length += bytes as u64;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(step: usize) -> Line {
        Line::Reading(ReadingLine {
            step,
            drifts: BTreeMap::from([
                ("embedding-distance".to_owned(), Some(0.5)),
                ("x".to_owned(), None),
            ]),
            instances: 7,
            held: None,
            stretched: None,
            crossed: None,
            truth: Some(TruthLine {
                ap50: 0.8,
                ap75: 0.4,
                aji: Some(0.7),
            }),
        })
    }

    #[test]
    fn a_continued_record_drops_what_lies_beyond_its_step_and_a_cut_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let mut record = Record::begin(&path).unwrap();
        for step in [0, 5, 10] {
            record.push(&reading(step)).unwrap();
        }
        record.file.write_all(b"{\"kind\":\"rea").unwrap();
        assert_eq!(read(&path).unwrap().len(), 3);
        let mut record = Record::open(&path, 5).unwrap();
        record.push(&reading(6)).unwrap();
        assert_eq!(read(&path).unwrap(), [reading(0), reading(5), reading(6)]);
    }

    #[test]
    fn a_foreign_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        std::fs::write(&path, "{\"kind\":\"dance\"}\n").unwrap();
        let message = read(&path).unwrap_err().to_string();
        assert!(
            message.contains("line 1") && message.contains("dance"),
            "{message}"
        );
    }
}
