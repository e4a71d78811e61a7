//! The learning rate over a run: linear warm-up, then half a cosine down to zero.

use serde::{Deserialize, Serialize};

/// Linear warm-up and cosine annealing (paper, section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps until it is reached; at least 1.
    pub warm_up: usize,
    /// Steps of the whole run.
    pub steps: usize,
}

impl Schedule {
    /// Learning rate of step `step`, counted from 0.
    pub fn rate(&self, step: usize) -> f64 {
        let warm_up = self.warm_up.max(1);
        if step < warm_up {
            return self.peak * (step + 1) as f64 / warm_up as f64;
        }
        let rest = self.steps.saturating_sub(warm_up).max(1);
        let done = ((step - warm_up) as f64 / rest as f64).min(1.);
        self.peak * 0.5 * (1. + (std::f64::consts::PI * done).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_to_the_peak_and_falls_to_nothing() {
        let schedule = Schedule {
            peak: 1.,
            warm_up: 4,
            steps: 24,
        };
        let rates: Vec<f64> = (0..=24).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates[..5], [0.25, 0.5, 0.75, 1., 1.]);
        assert!((rates[14] - 0.5).abs() < 1e-12);
        assert!(rates[24].abs() < 1e-12);
        assert!(rates[4..].windows(2).all(|pair| pair[1] <= pair[0]));
        assert!(schedule.rate(1000).abs() < 1e-12);
    }
}
