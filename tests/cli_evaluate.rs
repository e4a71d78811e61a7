//! `selfadapt evaluate`: its table, its JSON, its messages.

use ndarray::{Array2, Array3};
use selfadapt_core::io::outputs::{write_masks_png, write_masks_tif};
use selfadapt_core::io::tiff;
use selfadapt_core::labels::Labels;
use serde_json::Value;

use crate::{assert_told, told};

/// Squares of side 4 in a row of six, those of `kept` only, each `shift` pixels to the right.
fn squares(kept: &[u32], shift: usize) -> Labels {
    let pixels = Array2::from_shape_fn((6, 36), |(y, x)| {
        let x = (x + 36 - shift) % 36;
        let label = x as u32 / 6 + 1;
        let inside = (1..5).contains(&y) && (1..5).contains(&(x % 6));
        if inside && kept.contains(&label) {
            label
        } else {
            0
        }
    });
    Labels::new(pixels)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["pred", "truth"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let save = |name: &str, labels: &Labels| {
        let path = folder.path().join(name);
        if name.ends_with("png") {
            write_masks_png(path, labels).unwrap();
        } else {
            write_masks_tif(path, labels).unwrap();
        }
    };
    let all = squares(&[1, 2, 3, 4, 5, 6], 0);
    save("truth/same_masks.tif", &all);
    save("pred/same_cp_masks.png", &all);
    // Shifted by a pixel a square keeps 12 of 20 pixels: IoU 0.6.
    save("truth/shifted_masks.png", &all);
    save("pred/shifted_cp_masks.tif", &squares(&[1, 2, 3, 4], 1));
    save("truth/empty_masks.tif", &Labels::empty(6, 36));
    save("pred/empty_cp_masks.tif", &Labels::empty(6, 36));
    save("truth/unpredicted_masks.tif", &all);
    save("pred/untrue_cp_masks.tif", &all);
    folder
}

#[test]
fn prints_a_table_and_lists_missing_partners() {
    let folder = folder();
    let arguments = ["evaluate", "--pred", "pred", "--truth", "truth"];
    assert_told!("evaluate", told(folder.path(), &arguments));
    let shown = told(
        folder.path(),
        &[
            &arguments[..],
            &["--thresholds", "0.3,0.6", "--json", "scores.json"],
        ]
        .concat(),
    );
    assert_told!("evaluate_thresholds", shown);
    let text = std::fs::read_to_string(folder.path().join("scores.json")).unwrap();
    let scores: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(scores["images"].as_array().unwrap().len(), 3);
    let overall = &scores["overall"];
    assert_eq!(overall["empty"], 1);
    // IoU 0.6 is reached by 0.6: the mean of 1 and 4 / 6.
    let at = &overall["average_precision"][1];
    assert!(
        (at["ap"].as_f64().unwrap() - 5.0 / 6.0).abs() < 1e-12,
        "{at}"
    );
    assert_eq!(at["true_positives"], 10);
    assert_eq!(scores["images"][0]["image"], "empty");
    assert_eq!(scores["images"][0]["panoptic_quality"], Value::Null);
    assert_eq!(scores["without_truth"][0], "untrue");
}

#[test]
fn goes_on_past_a_bad_pair() {
    let folder = folder();
    write_masks_tif(
        folder.path().join("pred/unpredicted_cp_masks.tif"),
        &Labels::empty(5, 36),
    )
    .unwrap();
    std::fs::write(folder.path().join("truth/untrue_masks.tif"), "no image").unwrap();
    let arguments = ["evaluate", "--pred", "pred", "--truth", "truth"];
    assert_told!("evaluate_bad_pairs", told(folder.path(), &arguments));
}

#[test]
fn says_why_there_is_nothing_to_evaluate() {
    let folder = folder();
    for (name, arguments) in [
        (
            "evaluate_no_folder",
            ["evaluate", "--pred", "nowhere", "--truth", "truth"],
        ),
        (
            "evaluate_no_pair",
            ["evaluate", "--pred", "truth", "--truth", "pred"],
        ),
    ] {
        assert_told!(name, told(folder.path(), &arguments));
    }
}

#[test]
fn pairs_are_drawn_on_their_images() {
    let folder = folder();
    let here = folder.path();
    let arguments = [
        "evaluate",
        "--pred",
        "pred",
        "--truth",
        "truth",
        "--pictures",
        "drawn",
    ];
    let without = told(here, &arguments);
    assert!(
        without.starts_with("exit code 2") && without.contains("--pictures: no images to draw on"),
        "{without}"
    );
    for stem in ["same", "shifted"] {
        let image = Array3::from_shape_fn((1, 6, 36), |(_, _, x)| x as u8);
        tiff::write(here.join(format!("truth/{stem}.tif")), image.view()).unwrap();
    }
    let told = told(here, &arguments);
    // One pair has no image: it is told and not counted.
    assert!(
        told.starts_with("exit code 1") && told.contains("expected the image empty.tif"),
        "{told}"
    );
    let picture = |name: &str| {
        image::open(here.join("drawn").join(name))
            .unwrap()
            .to_rgb8()
    };
    let plain = picture("same_image.png");
    assert_eq!(plain.dimensions(), (36, 6));
    assert!(plain.pixels().all(|pixel| pixel.0[0] == pixel.0[2]));
    let coloured = |picture: &image::RgbImage| {
        let pixels = picture.pixels().enumerate();
        let coloured = pixels.filter(|(_, pixel)| pixel.0[0] != pixel.0[2]);
        coloured.map(|(at, _)| at).collect::<Vec<_>>()
    };
    // The same outlines in two colours; those of shifted masks lie elsewhere.
    let (found, there) = (picture("same_pred.png"), picture("same_truth.png"));
    assert!(!coloured(&found).is_empty());
    assert_eq!(coloured(&found), coloured(&there));
    assert_ne!(found, there);
    let (found, there) = (picture("shifted_pred.png"), picture("shifted_truth.png"));
    assert_ne!(coloured(&found), coloured(&there));
}
