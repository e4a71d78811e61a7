//! How far the features lie from those of the model's training images: a candidate of the paper's
//! Figure 2b, rejected there because it needs source data.

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

use crate::embedding_distance::distance;

/// The change of the distance between the mean embedding of the validation images and that of given
/// source images; negative while the model's features approach the source's. Recorded by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDistance {
    /// Embeddings `[D]` of source images by the untouched model.
    pub source: Vec<Vec<f32>>,
    /// The change beyond which adaptation stops; none only records it.
    #[serde(default)]
    pub threshold: Option<f64>,
}

#[typetag::serde(name = "source-distance")]
impl StopCriterion for SourceDistance {
    fn name(&self) -> &'static str {
        "source-distance"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        let source = mean(&self.source);
        let from_source = |reading: &Reading| distance(&mean(&reading.embeddings), &source);
        from_source(now) - from_source(initial)
    }

    fn threshold(&self) -> Option<f64> {
        self.threshold
    }
}

/// The mean vector; empty if there is none or their lengths differ.
fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let Some(first) = vectors.first() else {
        return Vec::new();
    };
    if vectors.iter().any(|vector| vector.len() != first.len()) {
        return Vec::new();
    }
    (0..first.len())
        .map(|i| {
            let sum: f64 = vectors.iter().map(|vector| f64::from(vector[i])).sum();
            (sum / vectors.len() as f64) as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_negative_on_the_way_to_the_source() {
        let reading = |x: f32| Reading {
            embeddings: vec![vec![x - 1.0, 0.0], vec![x + 1.0, 0.0]],
            ..Reading::default()
        };
        let criterion = SourceDistance {
            source: vec![vec![10.0, 0.0]],
            threshold: None,
        };
        assert_eq!(criterion.drift(&reading(0.0), &reading(4.0)), -4.0);
        assert_eq!(criterion.drift(&reading(0.0), &reading(0.0)), 0.0);
        assert!(criterion.drift(&Reading::default(), &reading(0.0)).is_nan());
    }
}
