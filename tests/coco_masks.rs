//! COCO's masks against pycocotools, and label images of them against Cellpose.

use selfadapt_core::io::datasets::overlaps;
use selfadapt_core::io::datasets::runs::Runs;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    masks: Vec<Mask>,
    scenes: Vec<Scene>,
}

#[derive(Deserialize)]
struct Mask {
    size: [u32; 2],
    outlines: Vec<Vec<f64>>,
    text: String,
    counts: Vec<u32>,
}

#[derive(Deserialize)]
struct Scene {
    size: [u32; 2],
    outlines: Vec<Vec<f64>>,
    labels: Vec<u32>,
}

/// Made by `fixtures/datasets/coco_masks.py`.
fn golden() -> Golden {
    serde_json::from_str(include_str!("fixtures/datasets/coco_masks.json")).unwrap()
}

#[test]
fn masks_are_those_of_pycocotools_to_the_pixel() {
    let masks = golden().masks;
    assert_eq!(masks.len(), 40);
    let mut pixels = 0;
    for (number, mask) in masks.iter().enumerate() {
        let size = (mask.size[0], mask.size[1]);
        let text = Runs::from_text(size, &mask.text).unwrap();
        assert_eq!(
            Runs::from_counts(size, &mask.counts).unwrap(),
            text,
            "{number}"
        );
        let parts = mask
            .outlines
            .iter()
            .map(|outline| Runs::from_outline(size, outline).unwrap());
        let filled = Runs::union(parts.collect());
        let (filled, text): (Vec<_>, Vec<_>) = (filled.pixels().collect(), text.pixels().collect());
        assert_eq!(filled, text, "{number}: {:?}", mask.outlines);
        pixels += filled.len();
    }
    assert!(pixels > 3000, "{pixels}");
}

#[test]
fn overlaps_are_resolved_as_cellpose_does() {
    for scene in golden().scenes {
        let size = (scene.size[0], scene.size[1]);
        let masks: Vec<Runs> = scene
            .outlines
            .iter()
            .map(|outline| Runs::from_outline(size, outline).unwrap())
            .collect();
        let (labels, dropped) = overlaps::paint((size.0 as usize, size.1 as usize), &masks);
        assert_eq!(labels.as_slice(), scene.labels);
        let kept = *scene.labels.iter().max().unwrap() as usize;
        assert_eq!(labels.count() + dropped, masks.len());
        assert_eq!(labels.count(), kept);
    }
}

#[test]
fn masks_that_do_not_fit_their_image_are_refused() {
    let size = (10, 10);
    let refused = |reason: Result<Runs, String>| reason.unwrap_err();
    for (reason, told) in [
        (Runs::from_counts(size, &[90]), "found fewer"),
        (Runs::from_counts(size, &[90, 20]), "found more"),
        (
            Runs::from_counts(size, &[u32::MAX, u32::MAX, u32::MAX]),
            "found more",
        ),
        (Runs::from_counts((0, 10), &[]), "1 to 16384"),
        (Runs::from_counts((4_000_000_000, 10), &[]), "1 to 16384"),
        (Runs::from_text(size, "o"), "cut off"),
        (Runs::from_text(size, "\u{1}"), "does not belong"),
        (Runs::from_text(size, "ooooooooo0"), "32 bits"),
        (Runs::from_outline(size, &[1., 2., 3.]), "two make a point"),
        (
            Runs::from_outline(size, &[1., f64::NAN, 3., 4., 5., 6.]),
            "NaN",
        ),
        (
            Runs::from_outline(size, &[1., 1., 5., 5., 1e9, 5.]),
            "far outside",
        ),
    ] {
        let reason = refused(reason);
        assert!(reason.contains(told), "{reason}");
    }
    for beside in [[20., 20., 25., 20., 25., 25.], [-9., 1., -5., 1., -5., 5.]] {
        assert_eq!(Runs::from_outline(size, &beside).unwrap().area(), 0);
    }
    assert_eq!(
        Runs::from_outline(size, &[1., 1., 5., 5.]).unwrap().area(),
        0
    );
}
