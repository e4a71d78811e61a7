//! Pairs of overlapping objects of two label images, and the best one-to-one matching between them.

use selfadapt_core::error::{Error, Result};
use selfadapt_core::labels::Labels;
use selfadapt_kernels::overlap::overlap;
use serde::{Deserialize, Serialize};

use crate::assignment::largest_matching;

/// What a pair's score is: its intersection divided by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criterion {
    /// By the union: intersection over union.
    #[default]
    Iou,
    /// By the true object's area.
    Iot,
    /// By the predicted object's area.
    Iop,
}

/// A true and a predicted object that share pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// Label of the true object, from 1.
    pub truth: u32,
    /// Label of the predicted object, from 1.
    pub prediction: u32,
    /// Pixels that both cover, at least 1.
    pub intersection: usize,
}

/// A pair that was matched one-to-one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// The two objects.
    pub overlap: Overlap,
    /// Their score in `(0, 1]`.
    pub score: f64,
}

/// All overlaps between two label images of one size.
#[derive(Clone, Debug)]
pub struct Overlaps {
    pairs: Vec<Overlap>,
    truth_areas: Vec<usize>,
    prediction_areas: Vec<usize>,
    foreground: usize,
}

impl Overlaps {
    /// Counts the pixels of every overlapping pair.
    ///
    /// # Errors
    /// If the two images differ in size.
    pub fn new(truth: &Labels, prediction: &Labels) -> Result<Self> {
        if truth.size() != prediction.size() {
            let ((h, w), (y, x)) = (truth.size(), prediction.size());
            return Err(Error::Labels(format!(
                "truth and prediction must have one size, found {h} x {w} and {y} x {x} pixels"
            )));
        }
        let found = overlap(truth.as_slice(), prediction.as_slice())?;
        let areas = |of: &[(u32, usize)]| of.iter().map(|&(_, area)| area).collect::<Vec<_>>();
        let (truth_areas, prediction_areas) = (areas(&found.areas_a), areas(&found.areas_b));
        let pairs: Vec<Overlap> = found
            .shared
            .iter()
            .map(|shared| Overlap {
                truth: shared.label_a,
                prediction: shared.label_b,
                intersection: shared.pixels,
            })
            .collect();
        let shared: usize = pairs.iter().map(|pair| pair.intersection).sum();
        let covered = truth_areas.iter().chain(&prediction_areas).sum::<usize>();
        Ok(Self {
            pairs,
            truth_areas,
            prediction_areas,
            foreground: covered - shared,
        })
    }

    /// Those of each image of a series with its counterpart; none if the two series are not of the same images (their
    /// number or sizes differ).
    pub fn of_series(truths: &[Labels], predictions: &[Labels]) -> Option<Vec<Self>> {
        let pairs = truths.iter().zip(predictions);
        let counted = pairs.map(|(truth, prediction)| Self::new(truth, prediction).ok());
        counted
            .collect::<Option<_>>()
            .filter(|_| truths.len() == predictions.len())
    }

    /// The overlapping pairs, by true and then by predicted label.
    pub fn pairs(&self) -> &[Overlap] {
        &self.pairs
    }

    /// How many true objects there are.
    pub fn truths(&self) -> usize {
        self.truth_areas.len()
    }

    /// How many predicted objects there are.
    pub fn predictions(&self) -> usize {
        self.prediction_areas.len()
    }

    /// Pixels that either image covers.
    pub fn foreground(&self) -> usize {
        self.foreground
    }

    /// A pair's score in `(0, 1]`.
    pub fn score(&self, pair: &Overlap, criterion: Criterion) -> f64 {
        let (truth, prediction) = self.areas(pair);
        let whole = match criterion {
            Criterion::Iou => truth + prediction - pair.intersection,
            Criterion::Iot => truth,
            Criterion::Iop => prediction,
        };
        pair.intersection as f64 / whole as f64
    }

    /// Pixels of a pair's true object, and of its predicted one.
    pub fn areas(&self, pair: &Overlap) -> (usize, usize) {
        (
            self.truth_areas[pair.truth as usize - 1],
            self.prediction_areas[pair.prediction as usize - 1],
        )
    }

    /// The one-to-one matching with the most pairs of at least `threshold`, and among those the one
    /// with the largest sum of scores over all its pairs; pairs below the threshold are included.
    ///
    /// As Cellpose's `mask_ious` and StarDist's `matching`: a linear sum assignment with cost
    /// `-(score >= threshold) - score / (2 min(truths, predictions))`.
    pub fn assignment(&self, criterion: Criterion, threshold: f64) -> Vec<Match> {
        let tie_break = 2.0 * self.truths().min(self.predictions()) as f64;
        let mut rows: Vec<Vec<(usize, f64)>> = vec![Vec::new(); self.truths()];
        for pair in &self.pairs {
            let score = self.score(pair, criterion);
            let weight = f64::from(u8::from(score >= threshold)) + score / tie_break;
            rows[pair.truth as usize - 1].push((pair.prediction as usize - 1, weight));
        }
        let chosen = largest_matching(&rows, self.predictions());
        self.pairs
            .iter()
            .filter(|pair| chosen[pair.truth as usize - 1] == Some(pair.prediction as usize - 1))
            .map(|pair| Match {
                overlap: *pair,
                score: self.score(pair, criterion),
            })
            .collect()
    }

    /// The pairs of [`Overlaps::assignment`] that reach the threshold, by true label.
    pub fn matched(&self, criterion: Criterion, threshold: f64) -> Vec<Match> {
        // Above one half no object can be in two such pairs, so there is nothing to choose.
        let mut matches = if criterion == Criterion::Iou && threshold > 0.5 {
            let scored = self.pairs.iter().map(|pair| Match {
                overlap: *pair,
                score: self.score(pair, criterion),
            });
            scored.collect()
        } else {
            self.assignment(criterion, threshold)
        };
        matches.retain(|found| found.score >= threshold);
        matches
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two random label images of one size, with up to five objects each.
    pub(crate) fn two_labels() -> impl Strategy<Value = (Labels, Labels)> {
        (1usize..7, 1usize..7).prop_flat_map(|(height, width)| {
            let pixels = prop::collection::vec(0u32..6, height * width);
            let labels = pixels.prop_map(move |p| Labels::from_rows(height, width, p).unwrap());
            (labels.clone(), labels)
        })
    }

    fn row(pixels: &[u32]) -> Labels {
        Labels::from_rows(1, pixels.len(), pixels.to_vec()).unwrap()
    }

    #[test]
    fn counts_pixels_and_scores_pairs() {
        let overlaps =
            Overlaps::new(&row(&[1, 1, 1, 1, 0, 2, 0]), &row(&[1, 1, 1, 0, 0, 2, 2])).unwrap();
        assert_eq!(overlaps.pairs().len(), 2);
        let pair = overlaps.pairs()[0];
        assert_eq!(pair.intersection, 3);
        assert_eq!(overlaps.score(&pair, Criterion::Iou), 0.75);
        assert_eq!(overlaps.score(&pair, Criterion::Iot), 0.75);
        assert_eq!(overlaps.score(&pair, Criterion::Iop), 1.0);
        assert_eq!(overlaps.foreground(), 6);
    }

    #[test]
    fn images_of_two_sizes_are_an_error() {
        let message = Overlaps::new(&row(&[1, 0]), &row(&[1]))
            .unwrap_err()
            .to_string();
        assert!(message.contains("1 x 2 and 1 x 1 pixels"), "{message}");
    }

    #[test]
    fn halves_of_one_object_match_it_once() {
        let overlaps = Overlaps::new(&row(&[1, 1, 1, 1]), &row(&[1, 1, 2, 2])).unwrap();
        assert_eq!(overlaps.matched(Criterion::Iou, 0.5).len(), 1);
    }

    #[test]
    fn two_pairs_above_a_low_threshold_beat_one_better_pair() {
        // Truth 1 overlaps prediction 1 best, but only prediction 2 is left to it if truth 2 is to match.
        let truth = row(&[1, 1, 1, 1, 1, 1, 2, 2]);
        let prediction = row(&[2, 2, 1, 1, 1, 1, 1, 1]);
        let overlaps = Overlaps::new(&truth, &prediction).unwrap();
        assert_eq!(overlaps.matched(Criterion::Iou, 0.3).len(), 2);
        assert_eq!(overlaps.matched(Criterion::Iou, 0.5).len(), 1);
    }

    proptest! {
        #[test]
        fn the_short_way_above_one_half_agrees_with_the_assignment((a, b) in two_labels()) {
            let overlaps = Overlaps::new(&a, &b).unwrap();
            let mut long = overlaps.assignment(Criterion::Iou, 0.51);
            long.retain(|found| found.score >= 0.51);
            prop_assert_eq!(overlaps.matched(Criterion::Iou, 0.51), long);
        }

        #[test]
        fn matching_is_one_to_one_and_shrinks_with_the_threshold((a, b) in two_labels()) {
            let overlaps = Overlaps::new(&a, &b).unwrap();
            let mut last = usize::MAX;
            for threshold in [0.1, 0.3, 0.5, 0.7, 0.9] {
                let matches = overlaps.matched(Criterion::Iou, threshold);
                let mut seen: Vec<u32> = matches.iter().map(|m| m.overlap.prediction).collect();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), matches.len());
                prop_assert!(matches.len() <= last);
                last = matches.len();
            }
        }

        #[test]
        fn scores_do_not_depend_on_which_image_is_the_truth((a, b) in two_labels()) {
            let forth = Overlaps::new(&a, &b).unwrap();
            let back = Overlaps::new(&b, &a).unwrap();
            for threshold in [0.2, 0.5, 0.8] {
                prop_assert_eq!(
                    forth.matched(Criterion::Iou, threshold).len(),
                    back.matched(Criterion::Iou, threshold).len()
                );
                prop_assert_eq!(
                    forth.matched(Criterion::Iot, threshold).len(),
                    back.matched(Criterion::Iop, threshold).len()
                );
            }
        }
    }
}
