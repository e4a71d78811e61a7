//! Scores of a pair, and of all pairs together.

use selfadapt_core::error::Result;
use selfadapt_core::io;
use selfadapt_metrics::aggregated_jaccard::aggregated_jaccard;
use selfadapt_metrics::average_precision::AveragePrecision;
use selfadapt_metrics::detection::Detection;
use selfadapt_metrics::matching::{Criterion, Overlaps};
use serde::Serialize;

use super::pairs::Pair;

/// The IoU at which panoptic quality is computed.
const PQ_AT: f64 = 0.5;

/// IoU thresholds, each in `(0, 1]`, ascending.
#[derive(Clone, Debug)]
pub struct Thresholds(pub Vec<f64>);

/// Scores of one image.
#[derive(Debug, Serialize)]
pub struct Scores {
    /// The image's stem.
    pub image: String,
    /// True objects.
    pub truths: usize,
    /// Predicted objects.
    pub predictions: usize,
    /// AP and counts at each threshold; AP is NaN (null) if the image has no object at all.
    pub average_precision: Vec<AveragePrecision>,
    /// Mean AP over the thresholds.
    pub mean_average_precision: f64,
    /// Cellpose's aggregated Jaccard index.
    pub aggregated_jaccard: f64,
    /// At IoU 0.5; NaN (null) if the image has no object at all.
    pub panoptic_quality: f64,
}

/// Scores of all images: means of the ratios, sums of the counts.
#[derive(Debug, Serialize)]
pub struct Overall {
    /// How many images were evaluated.
    pub images: usize,
    /// Images without any object, true or predicted; they are left out of the means.
    pub empty: usize,
    /// The means and sums.
    #[serde(flatten)]
    pub scores: Scores,
}

/// Reads a pair and scores it.
pub fn of_pair(pair: &Pair, thresholds: &[f64]) -> Result<Scores> {
    let truth = io::read_labels(&pair.truth)?;
    let prediction = io::read_labels(&pair.prediction)?;
    let overlaps = Overlaps::new(&truth, &prediction)?;
    let at: Vec<_> = thresholds
        .iter()
        .map(|&threshold| AveragePrecision::at(&overlaps, threshold))
        .collect();
    let empty = overlaps.truths() + overlaps.predictions() == 0;
    Ok(Scores {
        image: pair.stem.clone(),
        truths: overlaps.truths(),
        predictions: overlaps.predictions(),
        mean_average_precision: mean(at.iter().map(|at| at.ap)),
        average_precision: at,
        aggregated_jaccard: aggregated_jaccard(&overlaps),
        panoptic_quality: if empty {
            f64::NAN
        } else {
            Detection::at(&overlaps, Criterion::Iou, PQ_AT).panoptic_quality
        },
    })
}

/// Means over the images that have an object, and sums of the counts.
pub fn overall(images: &[Scores], thresholds: &[f64]) -> Overall {
    let full: Vec<&Scores> = images
        .iter()
        .filter(|image| image.truths + image.predictions > 0)
        .collect();
    let mean_of = |value: fn(&Scores) -> f64| mean(full.iter().map(|image| value(image)));
    let average_precision = thresholds
        .iter()
        .enumerate()
        .map(|(i, &threshold)| {
            let at = || {
                full.iter()
                    .filter_map(|image| image.average_precision.get(i))
            };
            AveragePrecision {
                threshold,
                ap: mean(at().map(|at| at.ap)),
                true_positives: at().map(|at| at.true_positives).sum(),
                false_positives: at().map(|at| at.false_positives).sum(),
                false_negatives: at().map(|at| at.false_negatives).sum(),
            }
        })
        .collect();
    Overall {
        images: images.len(),
        empty: images.len() - full.len(),
        scores: Scores {
            image: "overall".into(),
            truths: full.iter().map(|image| image.truths).sum(),
            predictions: full.iter().map(|image| image.predictions).sum(),
            average_precision,
            mean_average_precision: mean_of(|image| image.mean_average_precision),
            aggregated_jaccard: mean_of(|image| image.aggregated_jaccard),
            panoptic_quality: mean_of(|image| image.panoptic_quality),
        },
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| {
        (sum + value, count + 1)
    });
    sum / count as f64
}

/// Parses `0.5:0.95:0.05` (the last value included) or `0.5,0.75,0.9`.
pub fn thresholds(text: &str) -> std::result::Result<Thresholds, String> {
    let number = |text: &str| {
        let value: f64 = text
            .trim()
            .parse()
            .map_err(|_| format!("`{text}` is not a number"))?;
        if value > 0.0 && value <= 1.0 {
            Ok(value)
        } else {
            Err(format!("{value} lies outside (0, 1]"))
        }
    };
    let mut values: Vec<f64> = match text.split(':').collect::<Vec<_>>()[..] {
        [first, last, step] => {
            let (first, last, step) = (number(first)?, number(last)?, number(step)?);
            let count = ((last - first) / step + 1e-9).floor();
            if !(0.0..=1000.0).contains(&count) {
                return Err(
                    "expected FIRST:LAST:STEP with FIRST <= LAST, at most 1000 steps".into(),
                );
            }
            // 0.55 is meant, not 0.5 + 0.05 with its rounding: an IoU may be equal to it.
            let round = |value: f64| (value * 1e9).round() / 1e9;
            (0..=count as usize)
                .map(|i| round(first + i as f64 * step))
                .collect()
        }
        [list] => list
            .split(',')
            .map(number)
            .collect::<std::result::Result<_, _>>()?,
        _ => return Err("expected FIRST:LAST:STEP or a list like 0.5,0.75,0.9".into()),
    };
    values.sort_by(f64::total_cmp);
    values.dedup();
    Ok(Thresholds(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_include_their_end() {
        let values = thresholds("0.5:0.95:0.05").unwrap().0;
        assert_eq!(
            values,
            [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
        );
        assert_eq!(thresholds("0.9, 0.5").unwrap().0, [0.5, 0.9]);
    }

    #[test]
    fn bad_ranges_say_why() {
        for (text, reason) in [
            ("0.5:0.9", "expected FIRST:LAST:STEP"),
            ("0", "outside"),
            ("0.9:0.5:0.1", "FIRST <= LAST"),
            ("a", "not a number"),
        ] {
            let message = thresholds(text).unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
