//! `selfadapt segment`: files, manifest, exit codes, and what it says of inputs that it cannot use.

use std::path::Path;

use ndarray::{Array2, Array3};
use selfadapt_core::io;
use selfadapt_metrics::average_precision::average_precision;
use serde_json::Value;

use crate::{assert_told, assets, told};

/// A folder with the real checkpoint as `model` and some images of `data/`.
fn folder(images: &[&str]) -> Option<tempfile::TempDir> {
    let assets = assets::dir()?;
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        std::fs::copy(assets.join(from), folder.path().join(to)).unwrap();
    };
    copy("cellpose/cyto_scellseg.pt", "model");
    for image in images {
        copy(&format!("data/{image}"), image);
    }
    Some(folder)
}

fn segment(folder: &Path, arguments: &[&str]) -> String {
    let common = ["segment", "--model", "model", "--out", "out"];
    told(folder, &[&common[..], arguments].concat())
}

fn manifest(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("out/segment.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn segments_a_folder_and_records_it() {
    let Some(folder) = folder(&["mouse_00.tif", "mouse_01.tif", "mouse_00_masks.tif"]) else {
        return;
    };
    let here = folder.path();
    let kinds = "masks,seg,outlines,rois,flows,overlay";
    let arguments = [
        "--diameter",
        "20",
        "--save",
        kinds,
        "--min-size",
        "20",
        "--set",
        "niter=150",
    ];
    let shown = segment(here, &[&arguments[..], &["."]].concat());
    assert_told!("segment", shown);
    let written = |suffix: &str| here.join(format!("out/mouse_00{suffix}")).is_file();
    for suffix in [
        "_cp_masks.tif",
        "_seg.npy",
        "_cp_outlines.txt",
        "_rois.zip",
        "_flows_cp_masks.tif",
        "_dP_cp_masks.tif",
        "_outlines_cp_masks.png",
    ] {
        assert!(written(suffix), "{suffix}");
    }
    let masks = io::read_labels(here.join("out/mouse_00_cp_masks.tif")).unwrap();
    let seg = io::read_labels(here.join("out/mouse_00_seg.npy")).unwrap();
    assert_eq!(masks, seg);
    let truth = io::read_labels(here.join("mouse_00_masks.tif")).unwrap();
    let ap = average_precision(&truth, &masks, &[0.5]).unwrap()[0].ap;
    assert!(ap > 0.4, "AP {ap}");

    let manifest = manifest(here);
    assert_eq!(manifest["counts"]["images"], 2);
    assert_eq!(manifest["images"][0]["cells"], masks.count());
    assert_eq!(
        manifest["images"][0]["outputs"].as_array().unwrap().len(),
        7
    );
    assert_eq!(manifest["model"]["settings"]["min_size"], 20);
    assert_eq!(manifest["model"]["settings"]["niter"], 150);
    assert_eq!(manifest["scale"], 1.5);
    assert!(manifest["seconds"]["network"].as_f64().unwrap() > 0.0);
}

#[test]
fn goes_on_past_images_that_it_cannot_use() {
    let Some(folder) = folder(&["mouse_00.tif"]) else {
        return;
    };
    let here = folder.path();
    let whole = std::fs::read(here.join("mouse_00.tif")).unwrap();
    std::fs::write(here.join("truncated.tif"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(here.join("empty.tif"), []).unwrap();
    std::fs::write(here.join("text.png"), "no image").unwrap();
    std::fs::write(here.join("slide.czi"), "no image").unwrap();
    let mut holed = Array2::<f32>::from_elem((40, 40), 1.0);
    holed[[3, 4]] = f32::NAN;
    io::npy::write(here.join("nan.npy"), &holed).unwrap();
    io::tiff::write(
        here.join("stack.tif"),
        Array3::<u8>::zeros((12, 40, 50)).view(),
    )
    .unwrap();
    let inputs = [
        "--diameter",
        "30",
        "mouse_00.tif",
        "truncated.tif",
        "empty.tif",
        "text.png",
        "slide.czi",
        "nan.npy",
        "stack.tif",
    ];
    assert_told!("segment_bad_images", segment(here, &inputs));
    assert!(here.join("out/mouse_00_cp_masks.tif").is_file());
    let manifest = manifest(here);
    assert_eq!(manifest["counts"]["images"], 1);
    assert_eq!(manifest["failed"].as_array().unwrap().len(), 6);
}

#[test]
fn odd_but_good_images_give_masks() {
    let Some(folder) = folder(&[]) else {
        return;
    };
    let here = folder.path();
    let write = |name: &str, pixels: Array2<f32>| io::npy::write(here.join(name), &pixels).unwrap();
    write("constant.npy", Array2::from_elem((50, 60), 7.0));
    write("one.npy", Array2::from_elem((1, 1), 7.0));
    write(
        "wide.npy",
        Array2::from_shape_fn((2, 40_000), |(_, x)| (x % 977) as f32),
    );
    let inputs = ["--diameter", "300", "constant.npy", "one.npy", "wide.npy"];
    assert_told!("segment_odd_images", segment(here, &inputs));
    let wide = io::read_labels(here.join("out/wide_cp_masks.tif")).unwrap();
    assert_eq!(wide.size(), (2, 40_000));
    let plane = [
        "--diameter",
        "30",
        "--plane",
        "3",
        "--format",
        "png",
        "--json",
        "-q",
        "stack.tif",
    ];
    io::tiff::write(
        here.join("stack.tif"),
        Array3::<u8>::zeros((12, 40, 50)).view(),
    )
    .unwrap();
    let shown = segment(here, &plane);
    assert!(shown.starts_with("exit code 0\n--- stdout\n{"), "{shown}");
    assert!(here.join("out/stack_cp_masks.png").is_file());
}

#[test]
fn refuses_what_cannot_work_before_it_starts() {
    let Some(folder) = folder(&["mouse_00.tif"]) else {
        return;
    };
    let here = folder.path();
    std::fs::create_dir(here.join("other")).unwrap();
    std::fs::copy(here.join("mouse_00.tif"), here.join("other/mouse_00.tif")).unwrap();
    std::fs::create_dir(here.join("out")).unwrap();
    std::fs::copy(here.join("mouse_00.tif"), here.join("out/mouse_00.tif")).unwrap();
    std::fs::copy(
        here.join("mouse_00.tif"),
        here.join("out/mouse_00_cp_masks.tif"),
    )
    .unwrap();
    for (name, arguments) in [
        ("segment_no_input", &["missing.tif"][..]),
        ("segment_no_match", &["*.png"]),
        (
            "segment_same_output",
            &["mouse_00.tif", "other/mouse_00.tif"],
        ),
        (
            "segment_over_input",
            &["mouse_00.tif", "out/mouse_00_cp_masks.tif"],
        ),
        (
            "segment_unknown_setting",
            &["mouse_00.tif", "--set", "prob_threshold=0.5"],
        ),
        (
            "segment_wrong_setting",
            &["mouse_00.tif", "--set", "niter=many"],
        ),
        (
            "segment_range_of_setting",
            &["mouse_00.tif", "--flow-threshold=-1"],
        ),
        ("segment_bad_diameter", &["mouse_00.tif", "--diameter", "0"]),
        (
            "segment_pixel_size",
            &["mouse_00.tif", "--pixel-size", "0.5"],
        ),
        (
            "segment_three_channels",
            &["mouse_00.tif", "--channels", "1,2,3"],
        ),
    ] {
        assert_told!(name, segment(here, arguments));
    }
    let into = |out: &str| {
        let arguments = ["segment", "--model", "model", "--out", out, "mouse_00.tif"];
        told(here, &arguments)
    };
    assert_told!("segment_unwritable", into("model/out"));
    let channels = ["--channels", "3,0", "mouse_00.tif"];
    assert_told!("segment_missing_channel", segment(here, &channels));
}

#[test]
fn the_size_model_beside_a_checkpoint_gives_cellposes_diameters_and_cells() {
    let Some(folder) = folder(&["mouse_05.tif", "dsb_00.tif"]) else {
        return;
    };
    let here = folder.path();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/size_model");
    let expected = std::fs::read(fixtures.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    // Both names that Cellpose uses; the second model sees nothing at the size that it guesses from the style.
    for (case, beside, images) in [
        ("first", "model_size.npy", &["dsb_00", "mouse_05"][..]),
        ("second", "size_model.npy", &["dsb_00"]),
    ] {
        std::fs::copy(fixtures.join(format!("{case}.npy")), here.join(beside)).unwrap();
        let files: Vec<String> = images.iter().map(|image| format!("{image}.tif")).collect();
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        assert_told!(format!("segment_size_model_{case}"), segment(here, &files));
        let manifest = manifest(here);
        assert_eq!(manifest["sizing"]["size-model"], beside);
        for (name, done) in images.iter().zip(manifest["images"].as_array().unwrap()) {
            let golden = format!("{case}_{name}");
            for key in ["pixels", "by_style"] {
                let diameter = expected[&golden][key].as_f64().unwrap();
                let found = done["size_model"][key].as_f64().unwrap();
                assert!(
                    (found / diameter - 1.).abs() < 1e-3,
                    "{case} {name} {key}: {found}, Cellpose {diameter}"
                );
            }
            let truth = io::read_labels(fixtures.join(format!("{golden}.png"))).unwrap();
            let masks = here.join(format!("out/{name}_cp_masks.tif"));
            let masks = io::read_labels(masks).unwrap();
            let ap = average_precision(&truth, &masks, &[0.9]).unwrap()[0].ap;
            assert!(
                ap >= 0.99 && masks.count() == truth.count(),
                "{case} {name}: AP {ap}, {} cells, Cellpose {}",
                masks.count(),
                truth.count()
            );
        }
        // Whoever knows the diameter is not asked.
        let known = segment(here, &["--diameter", "30", files[0]]);
        assert!(known.contains("diameter: 30.0 pixels, as given"), "{known}");
        std::fs::remove_file(here.join(beside)).unwrap();
    }
    std::fs::write(here.join("model_size.npy"), "damaged").unwrap();
    assert_told!(
        "segment_damaged_size_model",
        segment(here, &["mouse_05.tif"])
    );
}
