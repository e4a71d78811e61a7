//! Masks from flows, step by step, against what Cellpose 3.1.1 made of the same flows.

use std::collections::BTreeMap;

use selfadapt_kernels::fill_holes::fill_holes_and_remove_small;
use selfadapt_kernels::flow_error::{flow_error, remove_bad_flow_masks};
use selfadapt_kernels::follow_flows::{Field, follow_flows};
use selfadapt_kernels::label_flows::{centres, label_flows};
use selfadapt_kernels::masks::{MaskParams, compute_masks};
use selfadapt_kernels::overlap::overlap;
use selfadapt_kernels::sinks::gather;

use crate::npz::Npz;

/// One image's flows, logits and everything that Cellpose made of them.
struct Case {
    name: &'static str,
    flows: Vec<f32>,
    cellprob: Vec<f32>,
    size: [usize; 2],
    recorded: Npz,
    eval_masks: Vec<u32>,
}

fn cases() -> Vec<Case> {
    let Some(dir) = crate::assets::dir() else {
        return Vec::new();
    };
    let names = ["mouse_00_d30", "mouse_00_d20", "stardist_img2d_d30"];
    names
        .map(|name| {
            let mut eval = Npz::open(dir.join(format!("cellpose/eval_{name}.npz")));
            let cellprob = eval.f32("cellprob");
            let size = [cellprob.shape()[0], cellprob.shape()[1]];
            Case {
                name,
                flows: eval.f32("dP").into_raw_vec_and_offset().0,
                cellprob: cellprob.into_raw_vec_and_offset().0,
                size,
                recorded: Npz::open(dir.join(format!("cellpose/dynamics_{name}.npz"))),
                eval_masks: eval.u32("masks").into_raw_vec_and_offset().0,
            }
        })
        .into()
}

impl Case {
    fn starts(&self) -> Vec<u32> {
        let pixels = (0..).zip(&self.cellprob);
        pixels
            .filter(|(_, logit)| **logit > 0.0)
            .map(|(pixel, _)| pixel)
            .collect()
    }

    fn ends(&self, steps: usize) -> Vec<[f32; 2]> {
        let [height, width] = self.size;
        let field = Field::of_network(&self.flows, &self.cellprob, 0.0, height, width).unwrap();
        follow_flows(&field, &self.starts(), steps, true).unwrap()
    }

    fn masks(&mut self, name: &str) -> Vec<u32> {
        self.recorded.u32(name).into_raw_vec_and_offset().0
    }
}

/// Whether two label images are equal but for the numbers of their instances.
fn same_partition(a: &[u32], b: &[u32]) -> bool {
    let found = overlap(a, b).unwrap();
    found.areas_a.len() == found.areas_b.len()
        && found.shared.len() == found.areas_a.len()
        && found.iou().all(|iou| iou == 1.0)
}

#[test]
fn positions_agree_after_any_number_of_steps() {
    for mut case in cases() {
        let recorded = [
            ("p_niter1", 1),
            ("p_niter10", 10),
            ("p_niter50", 50),
            ("p", 200),
        ];
        let present = case.recorded.names();
        for (name, steps) in recorded
            .into_iter()
            .filter(|(name, _)| present.iter().any(|other| other == name))
        {
            let expected = case.recorded.f32(name);
            let ends = case.ends(steps);
            assert_eq!(expected.shape(), [2, ends.len()]);
            let mut largest = 0.0_f32;
            for (i, end) in ends.iter().enumerate() {
                for axis in 0..2 {
                    largest = largest.max((end[axis] - expected[[axis, i]]).abs());
                }
            }
            assert_eq!(largest, 0.0, "{} {name}", case.name);
        }
    }
}

#[test]
fn sinks_give_the_recorded_masks() {
    for mut case in cases() {
        let [height, width] = case.size;
        let expected = case.masks("masks_ft0");
        let masks = gather(&case.starts(), &case.ends(200), height, width, 0.4).unwrap();
        assert!(same_partition(&masks, &expected), "{}", case.name);
        // Numbers follow the first pixels on both sides, so they agree as well.
        assert_eq!(masks, expected, "{}", case.name);
    }
}

#[test]
fn flow_errors_and_what_they_drop_agree() {
    for mut case in cases() {
        let [height, width] = case.size;
        let masks = case.masks("masks_ft0");
        let expected = case.recorded.f64("flow_error");
        let errors = flow_error(&masks, &case.flows, height, width).unwrap();
        assert_eq!(errors.len(), expected.len());
        for ((number, (label, error)), expected) in (1..).zip(errors).zip(&expected) {
            assert_eq!(label, number);
            assert!(
                (error - expected).abs() < 1e-6,
                "{label}: {error}, {expected}"
            );
        }
        let kept = remove_bad_flow_masks(&masks, &case.flows, height, width, 0.4).unwrap();
        assert_eq!(kept, case.masks("masks_ft04"), "{}", case.name);
    }
}

#[test]
fn filling_and_cleaning_agree() {
    for mut case in cases() {
        let [height, width] = case.size;
        for name in ["masks_ft0", "masks_ft04"] {
            let masks = case.masks(name);
            let masks = fill_holes_and_remove_small(&masks, height, width, 15).unwrap();
            assert_eq!(
                masks,
                case.masks(&format!("{name}_final")),
                "{} {name}",
                case.name
            );
        }
    }
}

#[test]
fn the_whole_agrees_with_eval() {
    for mut case in cases() {
        let [height, width] = case.size;
        let params = MaskParams::default();
        let masks = compute_masks(&params, &case.flows, &case.cellprob, height, width).unwrap();
        assert_eq!(masks, case.masks("masks_ft04_final"), "{}", case.name);
        assert!(same_partition(&masks, &case.eval_masks), "{}", case.name);
        let unchecked = MaskParams {
            flow_threshold: 0.0,
            ..MaskParams::default()
        };
        let masks = compute_masks(&unchecked, &case.flows, &case.cellprob, height, width).unwrap();
        assert_eq!(masks, case.masks("masks_ft0_final"), "{}", case.name);
    }
}

#[test]
fn label_flows_and_centres_agree() {
    let Some(dir) = crate::assets::dir() else {
        return;
    };
    let mut npz = Npz::open(dir.join("cellpose/masks_to_flows.npz"));
    let mask = npz.u32("mask").into_raw_vec_and_offset().0;
    let flows = label_flows(&mask, 96, 96).unwrap();
    let largest = flows
        .iter()
        .zip(&npz.f64("mu"))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(largest < 1e-12, "{largest}");

    let expected = npz.i64("centers_gpu_algo_yx");
    let found = centres(&mask, 96, 96).unwrap();
    assert_eq!(found.len(), expected.shape()[0]);
    for ((_, [y, x]), expected) in found.iter().zip(expected.rows()) {
        assert_eq!([*y as i64, *x as i64], [expected[0], expected[1]]);
    }

    let network = npz.f32("dP").into_raw_vec_and_offset().0;
    let own: Vec<f32> = npz.f64("mu").iter().map(|mu| (5.0 * mu) as f32).collect();
    for (flows, name) in [(network, "flow_error"), (own, "flow_error_self")] {
        let errors = flow_error(&mask, &flows, 96, 96).unwrap();
        for ((_, error), expected) in errors.iter().zip(&npz.f64(name)) {
            assert!(
                (error - expected).abs() < 1e-6,
                "{name}: {error}, {expected}"
            );
        }
    }
}

#[test]
fn odd_images_give_masks_or_none() {
    let params = MaskParams::default();
    for (height, width) in [(0, 0), (1, 1), (1, 300), (300, 1), (2, 3)] {
        let n = height * width;
        for (flow, logit) in [
            (0.0, 1.0),
            (f32::NAN, 1.0),
            (f32::INFINITY, 1.0),
            (3.0, f32::NAN),
        ] {
            let flows = vec![flow; 2 * n];
            let masks = compute_masks(&params, &flows, &vec![logit; n], height, width).unwrap();
            assert_eq!(masks.len(), n);
        }
        let masks = compute_masks(&params, &vec![1.0; 2 * n], &vec![-1.0; n], height, width);
        assert!(masks.unwrap().iter().all(|&label| label == 0));
    }
    let not_a_number = MaskParams {
        flow_threshold: f64::NAN,
        ..params
    };
    assert!(compute_masks(&not_a_number, &[0.0; 2], &[0.0], 1, 1).is_err());
}

/// Square cells of `side` by `side` pixels, `gap` apart, whose flows point to their middles.
fn squares(count: usize, side: usize, gap: usize) -> (Vec<f32>, Vec<f32>, usize) {
    let pitch = side + gap;
    let size = count * pitch;
    let (mut flows, mut cellprob) = (vec![0.0; 2 * size * size], vec![-1.0; size * size]);
    let middle = (side / 2) as f32;
    for i in 0..size * size {
        let (y, x) = (i / size % pitch, i % size % pitch);
        if y < side && x < side {
            let (dy, dx) = (middle - y as f32, middle - x as f32);
            let length = dy.hypot(dx).max(1.0);
            (flows[i], flows[size * size + i]) = (5.0 * dy / length, 5.0 * dx / length);
            cellprob[i] = 1.0;
        }
    }
    (flows, cellprob, size)
}

#[test]
fn a_hundred_thousand_cells_keep_apart() {
    let (flows, cellprob, size) = squares(317, 5, 1);
    let masks = compute_masks(&MaskParams::default(), &flows, &cellprob, size, size).unwrap();
    let mut areas = BTreeMap::new();
    for &label in masks.iter().filter(|&&label| label != 0) {
        *areas.entry(label).or_insert(0) += 1;
    }
    assert_eq!(areas.len(), 317 * 317);
    assert_eq!(areas.keys().last(), Some(&(317 * 317)));
    assert!(areas.values().all(|&area| area == 25));
}

#[test]
fn one_cell_filling_the_image_is_too_large_unless_allowed() {
    let (flows, cellprob, size) = squares(1, 64, 0);
    let masks = compute_masks(&MaskParams::default(), &flows, &cellprob, size, size).unwrap();
    assert!(masks.iter().all(|&label| label == 0));
    let any_size = MaskParams {
        max_size_fraction: 1.0,
        ..MaskParams::default()
    };
    let masks = compute_masks(&any_size, &flows, &cellprob, size, size).unwrap();
    assert!(masks.iter().all(|&label| label == 1));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    for case in cases().into_iter().take(1) {
        let [height, width] = case.size;
        let masks = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let params = MaskParams::default();
            pool.unwrap()
                .install(|| compute_masks(&params, &case.flows, &case.cellprob, height, width))
                .unwrap()
        };
        assert_eq!(masks(1), masks(3));
    }
}
