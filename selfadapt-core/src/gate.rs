//! The confidence gate: which scalars of a pseudo-label are sure enough to learn from.

use candle_core::Tensor;
use rayon::prelude::*;
use selfadapt_kernels::quantile::quantile;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::head::{Head, HeadKind};
use crate::maps::{Masks, PseudoLabel};

/// How the gate decides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateConfig {
    /// Off for the paper's ablation: everything is admitted.
    pub enabled: bool,
    /// Regression: scalars whose spread is at most the moving average of this quantile. The paper's 0.8 is taken over
    /// whole crops, and where cells cover a fifth of them or less it leaves little of the cells.
    pub spread_quantile: f64,
    /// Classification: pixels whose winning class is at least as sure as the moving average of this
    /// quantile of that class (ACTIS; 0.2). 0, the default, admits every pixel: targets are probabilities and carry
    /// their doubt themselves, while a limit for each class takes more from the border of the class that is less sure
    /// everywhere, and moves the borders of cells (docs/calibration.md).
    pub confidence_quantile: f64,
    /// Share of the old value that a moving average keeps at each step.
    pub momentum: f64,
}

impl Default for GateConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            spread_quantile: 0.95,
            confidence_quantile: 0.,
            momentum: 0.99,
        }
    }
}

impl GateConfig {
    /// As the paper and ACTIS have it: a class-wise limit for classification too.
    pub fn paper() -> Self {
        Self {
            spread_quantile: 0.8,
            confidence_quantile: 0.2,
            ..Self::default()
        }
    }
}

/// Moving thresholds, one a scalar regression target and one a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceGate {
    config: GateConfig,
    /// Per head, per channel (regression) or class (classification); `None` until first seen.
    thresholds: Vec<Vec<Option<f32>>>,
}

impl ConfidenceGate {
    /// A gate that has seen nothing.
    ///
    /// # Errors
    /// If a quantile or the momentum lies outside `[0, 1]`.
    pub fn new(config: GateConfig, heads: &[Head]) -> Result<Self> {
        for (name, value) in [
            ("spread_quantile", config.spread_quantile),
            ("confidence_quantile", config.confidence_quantile),
            ("momentum", config.momentum),
        ] {
            if !(0. ..=1.).contains(&value) {
                return Err(Error::Setting(format!(
                    "gate.{name}: expected 0 to 1, found {value}"
                )));
            }
        }
        let thresholds = heads
            .iter()
            .map(|head| vec![None; classes_or_channels(head)])
            .collect();
        Ok(Self { config, thresholds })
    }

    /// Updates the thresholds with a batch and says which of its scalars they admit.
    ///
    /// # Errors
    /// If the label is not one of the gate's heads, or holds NaN.
    pub fn admit(&mut self, heads: &[Head], label: &PseudoLabel) -> Result<Masks> {
        let mut masks = Vec::with_capacity(heads.len());
        for (index, head) in heads.iter().enumerate() {
            let (Some(mean), Some(spread), Some(thresholds)) = (
                label.mean.get(index),
                label.spread.get(index),
                self.thresholds.get_mut(index),
            ) else {
                return Err(Error::Setting(format!(
                    "the gate was made for {} heads, the label has {}",
                    self.thresholds.len(),
                    label.mean.len()
                )));
            };
            masks.push(match head.kind {
                _ if !self.config.enabled => everything(head, mean)?,
                HeadKind::Classification if self.config.confidence_quantile == 0. => {
                    everything(head, mean)?
                }
                HeadKind::Regression(_) => small_spread(&self.config, spread, thresholds)?,
                HeadKind::Classification => sure_class(&self.config, mean, thresholds)?,
            });
        }
        Ok(Masks(masks))
    }
}

/// A sigmoid head has two classes on one channel.
fn classes_or_channels(head: &Head) -> usize {
    if head.is_classification() && head.channels == 1 {
        2
    } else {
        head.channels
    }
}

fn everything(head: &Head, mean: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = mean.dims4()?;
    let channels = if head.is_classification() {
        1
    } else {
        channels
    };
    Ok(Tensor::ones(
        (batch, channels, height, width),
        mean.dtype(),
        mean.device(),
    )?)
}

/// Moves one threshold towards what the batch says.
fn follow(threshold: &mut Option<f32>, seen: f32, momentum: f64) -> f32 {
    let moved = threshold.map_or(seen, |old| {
        (momentum * f64::from(old) + (1. - momentum) * f64::from(seen)) as f32
    });
    *threshold = Some(moved);
    moved
}

/// Scalars whose spread is at most their channel's threshold.
fn small_spread(
    config: &GateConfig,
    spread: &Tensor,
    thresholds: &mut [Option<f32>],
) -> Result<Tensor> {
    let (_, channels, height, width) = spread.dims4()?;
    let numbers = spread.flatten_all()?.to_vec1::<f32>()?;
    let plane = height * width;
    let limits = thresholds
        .par_iter_mut()
        .enumerate()
        .map(|(channel, threshold)| {
            let of_channel: Vec<f32> = numbers
                .chunks(plane.max(1))
                .skip(channel)
                .step_by(channels)
                .flatten()
                .copied()
                .collect();
            if of_channel.is_empty() {
                return Ok(f32::INFINITY);
            }
            let seen = quantile(&of_channel, config.spread_quantile)?;
            Ok(follow(threshold, seen as f32, config.momentum))
        })
        .collect::<Result<Vec<f32>>>()?;
    let mut mask = vec![0f32; numbers.len()];
    mask.par_chunks_mut(plane.max(1))
        .zip(numbers.par_chunks(plane.max(1)))
        .enumerate()
        .for_each(|(index, (mask, spread))| {
            let limit = limits[index % channels];
            mask.iter_mut()
                .zip(spread)
                .for_each(|(m, &s)| *m = f32::from(u8::from(s <= limit)));
        });
    Ok(Tensor::from_vec(mask, spread.shape(), spread.device())?)
}

/// Pixels whose winning class is at least as sure as that class's threshold.
fn sure_class(
    config: &GateConfig,
    mean: &Tensor,
    thresholds: &mut [Option<f32>],
) -> Result<Tensor> {
    let (batch, channels, height, width) = mean.dims4()?;
    let numbers = mean.flatten_all()?.to_vec1::<f32>()?;
    let plane = height * width;
    // The winner and its confidence, pixel by pixel.
    let winners: Vec<(u16, f32)> = (0..batch * plane)
        .into_par_iter()
        .map(|pixel| {
            let at = |channel: usize| {
                numbers[(pixel / plane * channels + channel) * plane + pixel % plane]
            };
            if channels == 1 {
                let p = at(0);
                return if p >= 0.5 { (1, p) } else { (0, 1. - p) };
            }
            (1..channels).fold((0, at(0)), |best, channel| {
                let p = at(channel);
                if p > best.1 {
                    (channel as u16, p)
                } else {
                    best
                }
            })
        })
        .collect();
    let limits = thresholds
        .par_iter_mut()
        .enumerate()
        .map(|(class, threshold)| {
            let confidences: Vec<f32> = winners
                .iter()
                .filter(|(winner, _)| usize::from(*winner) == class)
                .map(|(_, confidence)| *confidence)
                .collect();
            if confidences.is_empty() {
                return Ok(threshold.unwrap_or(f32::INFINITY));
            }
            let seen = quantile(&confidences, config.confidence_quantile)?;
            Ok(follow(threshold, seen as f32, config.momentum))
        })
        .collect::<Result<Vec<f32>>>()?;
    let mask: Vec<f32> = winners
        .into_par_iter()
        .map(|(class, confidence)| f32::from(u8::from(confidence >= limits[usize::from(class)])))
        .collect();
    Ok(Tensor::from_vec(
        mask,
        (batch, 1, height, width),
        mean.device(),
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::Equivariance;
    use candle_core::Device;

    const HEADS: [Head; 2] = [
        Head {
            name: "flows",
            channels: 2,
            kind: HeadKind::Regression(Equivariance::Vector),
        },
        Head {
            name: "cell",
            channels: 1,
            kind: HeadKind::Classification,
        },
    ];

    fn label(spread: Vec<f32>, probability: Vec<f32>) -> PseudoLabel {
        let n = probability.len();
        let map = |numbers: Vec<f32>, channels| {
            Tensor::from_vec(numbers, (1, channels, 1, n), &Device::Cpu).unwrap()
        };
        PseudoLabel {
            mean: vec![map(vec![0.; 2 * n], 2), map(probability, 1)],
            spread: vec![map(spread, 2), map(vec![0.; n], 1)],
        }
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn ramp() -> PseudoLabel {
        let spread = (0..10)
            .map(|i| i as f32)
            .chain((0..10).map(|i| 100. - 10. * i as f32))
            .collect();
        label(
            spread,
            vec![0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95],
        )
    }

    #[test]
    fn each_channel_and_class_has_its_own_quantile() {
        let mut gate = ConfidenceGate::new(GateConfig::paper(), &HEADS).unwrap();
        let Masks(masks) = gate.admit(&HEADS, &ramp()).unwrap();
        // The 80th percentile of 0..9 is 7.2: eight of ten stay in either channel.
        assert_eq!(
            numbers(&masks[0]),
            [
                1., 1., 1., 1., 1., 1., 1., 1., 0., 0., 0., 0., 1., 1., 1., 1., 1., 1., 1., 1.
            ]
        );
        // Of each class the least sure pixel falls below the 20th percentile of its five.
        assert_eq!(numbers(&masks[1]), [1., 1., 1., 1., 0., 0., 1., 1., 1., 1.]);
    }

    #[test]
    fn by_default_every_pixel_is_classified_and_unsteady_scalars_are_left_out() {
        let mut gate = ConfidenceGate::new(GateConfig::default(), &HEADS).unwrap();
        let Masks(masks) = gate.admit(&HEADS, &ramp()).unwrap();
        assert_eq!(numbers(&masks[0]).iter().sum::<f32>(), 18.);
        assert_eq!(numbers(&masks[1]), [1.; 10]);
    }

    #[test]
    fn thresholds_move_slowly() {
        let config = GateConfig {
            momentum: 0.9,
            ..GateConfig::paper()
        };
        let mut gate = ConfidenceGate::new(config, &HEADS).unwrap();
        gate.admit(&HEADS, &ramp()).unwrap();
        let wide = label(vec![1000.; 20], vec![0.99; 10]);
        gate.admit(&HEADS, &wide).unwrap();
        let first = gate.thresholds[0][0].unwrap();
        assert!((first - (0.9 * 7.2 + 100.)).abs() < 1e-3, "{first}");
        // Background was not seen in the second batch and stays where it was.
        assert!((gate.thresholds[1][0].unwrap() - 0.68).abs() < 1e-6);
    }

    #[test]
    fn a_looser_gate_admits_all_that_a_tighter_one_does() {
        let admitted = |spread_quantile: f64, confidence_quantile: f64| {
            let config = GateConfig {
                spread_quantile,
                confidence_quantile,
                ..GateConfig::default()
            };
            let mut gate = ConfidenceGate::new(config, &HEADS).unwrap();
            let Masks(masks) = gate.admit(&HEADS, &ramp()).unwrap();
            masks.iter().flat_map(numbers).collect::<Vec<_>>()
        };
        let (tight, loose) = (admitted(0.3, 0.7), admitted(0.9, 0.1));
        assert!(tight.iter().zip(&loose).all(|(t, l)| t <= l));
        assert!(tight.iter().sum::<f32>() < loose.iter().sum::<f32>());
    }

    #[test]
    fn a_gate_that_is_off_admits_everything() {
        let config = GateConfig {
            enabled: false,
            ..GateConfig::default()
        };
        let mut gate = ConfidenceGate::new(config, &HEADS).unwrap();
        let Masks(masks) = gate.admit(&HEADS, &ramp()).unwrap();
        assert!(masks.iter().flat_map(numbers).all(|m| m == 1.));
        assert_eq!(masks[1].dims(), [1, 1, 1, 10]);
    }
}
