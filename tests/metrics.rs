//! Metrics against those that Cellpose and StarDist computed on the same pairs of label images.

use std::path::Path;

use ndarray::Ix2;
use selfadapt_core::labels::Labels;
use selfadapt_metrics::aggregated_jaccard::aggregated_jaccard;
use selfadapt_metrics::average_precision::average_precision;
use selfadapt_metrics::detection::Detection;
use selfadapt_metrics::matching::{Criterion, Overlaps};
use serde_json::Value;

use crate::npz::Npz;

const TOLERANCE: f64 = 1e-6;

/// A recorded pair of label images.
struct Pair {
    name: String,
    expected: Value,
    truth: Labels,
    prediction: Labels,
    /// The label that the file had for true object `i + 1`, at entry `i`.
    truths: Vec<u32>,
    /// As `truths`, of the predicted objects.
    predictions: Vec<u32>,
}

/// All pairs of a record.
fn pairs(assets: &Path, record: &str) -> Vec<Pair> {
    let text = std::fs::read_to_string(assets.join("metrics").join(record)).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let mut npz = Npz::open(assets.join("metrics/pairs.npz"));
    let pairs = record["pairs"].as_object().unwrap();
    assert!(pairs.len() >= 11, "{} pairs", pairs.len());
    pairs
        .iter()
        .map(|(name, expected)| {
            let mut raw = |which: &str| {
                let pixels = npz.u32(&format!("{name}.{which}"));
                let mut numbers: Vec<u32> = pixels.iter().copied().filter(|&l| l > 0).collect();
                numbers.sort_unstable();
                numbers.dedup();
                (
                    Labels::new(pixels.into_dimensionality::<Ix2>().unwrap()),
                    numbers,
                )
            };
            let (truth, truths) = raw("gt");
            let (prediction, predictions) = raw("pred");
            Pair {
                name: name.clone(),
                expected: expected.clone(),
                truth,
                prediction,
                truths,
                predictions,
            }
        })
        .collect()
}

/// A recorded number; `null` is NaN.
fn number(value: &Value) -> f64 {
    if value.is_null() {
        f64::NAN
    } else {
        value.as_f64().unwrap()
    }
}

fn assert_close(found: f64, expected: &Value, what: &str) {
    let expected = number(expected);
    let same = (found - expected).abs() <= TOLERANCE || (found.is_nan() && expected.is_nan());
    assert!(same, "{what}: expected {expected}, found {found}");
}

#[test]
fn average_precision_and_jaccard_equal_cellpose() {
    let Some(assets) = crate::assets::dir() else {
        return;
    };
    let thresholds: Vec<f64> = (0..10).map(|i| 0.5 + 0.05 * f64::from(i)).collect();
    for pair in pairs(&assets, "cellpose_metrics.json") {
        let (name, expected) = (pair.name, pair.expected);
        // Cellpose counts by the largest label; where that differs, it was also run on renumbered labels.
        let expected = match &expected["renumbered"] {
            Value::Null => &expected["as_is"],
            renumbered => renumbered,
        };
        let found = average_precision(&pair.truth, &pair.prediction, &thresholds).unwrap();
        for (i, at) in found.iter().enumerate() {
            let what = |field: &str| format!("{name} at {:.2}: {field}", at.threshold);
            assert_close(at.ap, &expected["ap"][i], &what("ap"));
            assert_close(at.true_positives as f64, &expected["tp"][i], &what("tp"));
            assert_close(at.false_positives as f64, &expected["fp"][i], &what("fp"));
            assert_close(at.false_negatives as f64, &expected["fn"][i], &what("fn"));
        }
        let overlaps = Overlaps::new(&pair.truth, &pair.prediction).unwrap();
        let aji = aggregated_jaccard(&overlaps);
        assert_close(aji, &expected["aji"], &format!("{name}: aji"));
    }
}

#[test]
fn detection_scores_equal_stardist() {
    let Some(assets) = crate::assets::dir() else {
        return;
    };
    for pair in pairs(&assets, "stardist_matching.json") {
        let (name, expected) = (pair.name, pair.expected);
        let overlaps = Overlaps::new(&pair.truth, &pair.prediction).unwrap();
        for (criterion, key) in [
            (Criterion::Iou, "iou"),
            (Criterion::Iot, "iot"),
            (Criterion::Iop, "iop"),
        ] {
            for expected in expected[key].as_array().unwrap() {
                let threshold = expected["thresh"].as_f64().unwrap();
                let found = Detection::at(&overlaps, criterion, threshold);
                for (field, value) in [
                    ("tp", found.true_positives as f64),
                    ("fp", found.false_positives as f64),
                    ("fn", found.false_negatives as f64),
                    ("precision", found.precision),
                    ("recall", found.recall),
                    ("accuracy", found.accuracy),
                    ("f1", found.f1),
                    ("mean_true_score", found.mean_true_score),
                    ("mean_matched_score", found.mean_matched_score),
                    ("panoptic_quality", found.panoptic_quality),
                ] {
                    let what = format!("{name}, {key} at {threshold}: {field}");
                    assert_close(value, &expected[field], &what);
                }
            }
        }
    }
}

#[test]
fn matched_pairs_equal_stardist() {
    let Some(assets) = crate::assets::dir() else {
        return;
    };
    for pair in pairs(&assets, "stardist_matching.json") {
        let (name, expected) = (pair.name, pair.expected);
        let overlaps = Overlaps::new(&pair.truth, &pair.prediction).unwrap();
        let found = overlaps.matched(Criterion::Iou, 0.5);
        let expected = &expected["matches_iou_0_5"];
        let hits = expected["matched_tps"].as_array().unwrap();
        assert_eq!(found.len(), hits.len(), "{name}");
        for (found, hit) in found.iter().zip(hits) {
            let hit = hit.as_u64().unwrap() as usize;
            let labels = [
                pair.truths[found.overlap.truth as usize - 1],
                pair.predictions[found.overlap.prediction as usize - 1],
            ];
            let recorded = &expected["matched_pairs"][hit];
            assert_eq!(serde_json::json!(labels), *recorded, "{name}");
            assert_close(found.score, &expected["matched_scores"][hit], &name);
        }
    }
}
