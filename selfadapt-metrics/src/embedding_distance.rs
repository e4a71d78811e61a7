//! How far the bottleneck features have moved from the untouched model's (paper, section 2.2).

use selfadapt_core::stop::{Reading, StopCriterion};
use serde::{Deserialize, Serialize};

/// Stops once the features lie too far from where they started.
///
/// The Euclidean distance between an image's embeddings, now and initially, averaged over the
/// validation images; not negative, in the features' own unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingDistance {
    /// The distance beyond which adaptation stops; `inf` only records it.
    pub threshold: f64,
}

impl Default for EmbeddingDistance {
    fn default() -> Self {
        Self { threshold: 20.0 }
    }
}

#[typetag::serde(name = "embedding-distance")]
impl StopCriterion for EmbeddingDistance {
    fn name(&self) -> &'static str {
        "embedding-distance"
    }

    fn drift(&self, initial: &Reading, now: &Reading) -> f64 {
        if initial.embeddings.len() != now.embeddings.len() {
            return f64::NAN;
        }
        let pairs = initial.embeddings.iter().zip(&now.embeddings);
        let sum: f64 = pairs.map(|(a, b)| distance(a, b)).sum();
        sum / initial.embeddings.len().max(1) as f64
    }

    fn threshold(&self) -> Option<f64> {
        Some(self.threshold)
    }
}

/// Euclidean distance between two vectors; NaN if their lengths differ.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reading(embeddings: Vec<Vec<f32>>) -> Reading {
        Reading {
            embeddings,
            ..Reading::default()
        }
    }

    #[test]
    fn averages_over_images_not_over_features() {
        let criterion = EmbeddingDistance::default();
        let initial = reading(vec![vec![0.0, 0.0], vec![1.0, 1.0]]);
        let now = reading(vec![vec![3.0, 4.0], vec![1.0, 2.0]]);
        assert_eq!(criterion.drift(&initial, &now), 3.0);
        assert!(criterion.drift(&initial, &reading(vec![])).is_nan());
    }

    proptest! {
        #[test]
        fn is_a_distance(
            a in prop::collection::vec(prop::collection::vec(-9f32..9.0, 4), 3),
            b in prop::collection::vec(prop::collection::vec(-9f32..9.0, 4), 3),
        ) {
            let criterion = EmbeddingDistance::default();
            let (a, b) = (reading(a), reading(b));
            prop_assert_eq!(criterion.drift(&a, &a), 0.0);
            prop_assert!(criterion.drift(&a, &b) >= 0.0);
            prop_assert_eq!(criterion.drift(&a, &b), criterion.drift(&b, &a));
        }
    }
}
