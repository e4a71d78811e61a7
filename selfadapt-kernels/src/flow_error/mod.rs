//! Compares the flows that instances should have with those that a network predicts, and drops misfits.
//!
//! For instance `i` with pixels `Q`: `e_i = sum over dy and dx of mean over q in Q of (mu(q) - F(q) / 5)^2`,
//! `mu` its label flows (see [`crate::label_flows`]), `F` the network's. Cellpose 3.1.1's
//! `metrics.flow_error` and `dynamics.remove_bad_flow_masks`, sums row by row in `f64`.

use candle_core::Result;
use rayon::prelude::*;

use crate::label_flows::CellFlows;
use crate::objects::{Object, expect_size, objects};

/// Flow error of each instance of `labels` `[height, width]`, with its label, by ascending label.
///
/// `flows` `[2, height, width]` `(dy, dx)` are the network's, 5 times unit length; numbers that are not
/// finite count as 0 (in the original, an error that is not a number passes any threshold). Errors of unit
/// flows lie between 0 and 4. Labels may have gaps: absent ones have no entry.
///
/// # Errors
/// If `labels` or `flows` has another size.
pub fn flow_error(
    labels: &[u32],
    flows: &[f32],
    height: usize,
    width: usize,
) -> Result<Vec<(u32, f64)>> {
    expect_size("flow_error", "flows", flows.len(), [2, height, width])?;
    let objects = objects(labels, height, width)?;
    let (dy, dx) = flows.split_at(height * width);
    let errors = objects.par_iter();
    Ok(errors
        .map(|object| (object.label, error_of(labels, [dy, dx], width, object)))
        .collect())
}

fn error_of(labels: &[u32], network: [&[f32]; 2], width: usize, object: &Object) -> f64 {
    let cell = CellFlows::new(labels, width, object);
    let mut sums = [0.0; 2];
    for (pixel, flow) in cell.pixels() {
        for axis in 0..2 {
            let predicted = network[axis][pixel] / 5.0;
            let predicted = if predicted.is_finite() {
                predicted
            } else {
                0.0
            };
            let difference = flow[axis] - f64::from(predicted);
            sums[axis] += difference * difference;
        }
    }
    let [dy, dx] = sums.map(|sum| sum / object.pixels as f64);
    dy + dx
}

/// `labels` without the instances whose [`flow_error`] exceeds `threshold`; the others keep their numbers.
///
/// # Errors
/// If `labels` or `flows` has another size.
pub fn remove_bad_flow_masks(
    labels: &[u32],
    flows: &[f32],
    height: usize,
    width: usize,
    threshold: f64,
) -> Result<Vec<u32>> {
    let errors = flow_error(labels, flows, height, width)?;
    let bad: Vec<u32> = errors
        .iter()
        .filter(|(_, error)| *error > threshold)
        .map(|&(label, _)| label)
        .collect();
    let mut kept = labels.to_vec();
    // Runs, so that the search is not repeated for each pixel.
    for run in kept.chunk_by_mut(|a, b| a == b) {
        if bad.binary_search(&run[0]).is_ok() {
            run.fill(0);
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label_flows::label_flows;

    const LABELS: [u32; 20] = [7, 7, 7, 0, 3, 7, 7, 7, 0, 3, 7, 7, 7, 3, 3, 0, 0, 0, 3, 3];

    #[test]
    fn own_flows_have_no_error_and_turned_ones_four() {
        let own: Vec<f32> = label_flows(&LABELS, 4, 5)
            .unwrap()
            .iter()
            .map(|&flow| 5.0 * flow as f32)
            .collect();
        let errors = flow_error(&LABELS, &own, 4, 5).unwrap();
        assert_eq!(errors.iter().map(|e| e.0).collect::<Vec<_>>(), [3, 7]);
        assert!(errors.iter().all(|e| e.1 < 1e-12), "{errors:?}");
        // Turned round, every pixel but a cell's still centre is off by 2 along its direction.
        let turned: Vec<f32> = own.iter().map(|flow| -flow).collect();
        let errors = flow_error(&LABELS, &turned, 4, 5).unwrap();
        assert!(
            errors.iter().all(|e| e.1 > 3.0 && e.1 < 4.0 + 1e-6),
            "{errors:?}"
        );
        // Half the length: a quarter of the squared length.
        let half: Vec<f32> = own.iter().map(|flow| flow / 2.0).collect();
        let errors = flow_error(&LABELS, &half, 4, 5).unwrap();
        assert!(
            errors.iter().all(|e| e.1 > 0.19 && e.1 < 0.2501),
            "{errors:?}"
        );
    }

    #[test]
    fn misfits_go_and_the_rest_keep_their_numbers() {
        let mut flows: Vec<f32> = label_flows(&LABELS, 4, 5)
            .unwrap()
            .iter()
            .map(|&flow| 5.0 * flow as f32)
            .collect();
        for (i, &label) in LABELS.iter().enumerate() {
            if label == 3 {
                flows[i] = f32::NAN;
            }
        }
        let kept = remove_bad_flow_masks(&LABELS, &flows, 4, 5, 0.4).unwrap();
        assert_eq!(kept, LABELS.map(|label| if label == 7 { 7 } else { 0 }));
        let kept = remove_bad_flow_masks(&LABELS, &flows, 4, 5, 4.0).unwrap();
        assert_eq!(kept, LABELS);
    }

    #[test]
    fn sizes_have_to_fit() {
        assert!(flow_error(&LABELS, &[0.0; 40], 5, 4).is_ok());
        assert!(flow_error(&LABELS, &[0.0; 39], 4, 5).is_err());
        assert!(flow_error(&LABELS, &[0.0; 42], 3, 7).is_err());
        assert!(flow_error(&[0], &[0.0; 2], 1, 1).unwrap().is_empty());
    }
}
