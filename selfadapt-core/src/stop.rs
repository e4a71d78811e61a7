//! Label-free criteria: how far a model has drifted, judged from its outputs alone.

use serde::Serialize;

use crate::labels::Labels;

/// What one look at the validation images saw; one entry an image everywhere. No ground truth.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Bottleneck features `[D]`.
    pub embeddings: Vec<Vec<f32>>,
    /// Decoded instances.
    pub instances: Vec<Labels>,
    /// Instances decoded from the same crops seen through another flip and turn, which is undone on the maps.
    pub turned: Vec<Labels>,
    /// Instances decoded from the same crops after a fixed degradation (noise, blur, contrast): a model that fits
    /// its images finds the same cells.
    pub degraded: Vec<Labels>,
    /// Mean probability of the winning class over pixels and classification heads, in `[0.5, 1]`.
    pub confidence: Vec<f64>,
    /// Mean standard deviation over views, of all regression targets.
    pub spread: Vec<f64>,
    /// How badly each image's maps fit the instances decoded from them (for Cellpose: the mean flow
    /// error over instances); NaN where the model offers no such check or found no instance.
    pub inconsistency: Vec<f64>,
    /// How much the image changes along each instance's outline against background, in the order of the labels; NaN where it has
    /// no such outline.
    pub sharpness: Vec<Vec<f64>>,
}

/// A number that says how far the current model has moved, as a pure function of two readings.
#[typetag::serde(tag = "criterion")]
pub trait StopCriterion: std::fmt::Debug + Send + Sync {
    /// The name under which it is recorded.
    fn name(&self) -> &'static str;

    /// The drift from `initial` (the untouched model) to `now`.
    fn drift(&self, initial: &Reading, now: &Reading) -> f64;

    /// The drift beyond which adaptation stops; `None` if it is only recorded.
    fn threshold(&self) -> Option<f64>;

    /// Whether `drift`, which lies beyond the threshold, is no harm for all that: something else in the readings speaks for it.
    fn excused(&self, drift: f64, initial: &Reading, now: &Reading) -> bool {
        let _ = (drift, initial, now);
        false
    }
}

/// What a set of criteria says of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every drift is within its threshold.
    Continue,
    /// A drift is beyond its threshold.
    Crossed {
        /// Whose.
        criterion: &'static str,
        /// The drift that was read.
        drift: f64,
        /// The threshold.
        threshold: f64,
    },
}

impl Verdict {
    /// What one criterion's drift says; one that is not a number is not within any threshold.
    pub fn of(criterion: &'static str, drift: f64, threshold: f64) -> Self {
        if drift.is_nan() || drift > threshold {
            Self::Crossed {
                criterion,
                drift,
                threshold,
            }
        } else {
            Self::Continue
        }
    }
}

/// Asks each criterion in order; the first that is beyond its threshold decides.
pub fn judge(criteria: &[Box<dyn StopCriterion>], initial: &Reading, now: &Reading) -> Verdict {
    for criterion in criteria {
        if let Some(threshold) = criterion.threshold() {
            let drift = criterion.drift(initial, now);
            let verdict = Verdict::of(criterion.name(), drift, threshold);
            if verdict != Verdict::Continue
                && (drift.is_nan() || !criterion.excused(drift, initial, now))
            {
                return verdict;
            }
        }
    }
    Verdict::Continue
}
