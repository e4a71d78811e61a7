//! `selfadapt dataset`: what it writes, what it says, and how it goes on.

use std::path::Path;

use selfadapt_core::io::{self, Axes};
use serde_json::Value;

use crate::dataset_fixtures as fixtures;
use crate::{assert_told, selfadapt, told};

fn manifest(out: &Path) -> Value {
    let text = std::fs::read_to_string(out.join("dataset.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn livecell_becomes_images_and_labels_that_the_other_commands_pair() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fixtures::livecell(&here.join("livecell"), &["A172", "BV2"]);
    let arguments = ["dataset", "livecell", "--split", "test", "--out", "out"];
    assert_told!("dataset", told(here, &arguments));
    let out = here.join("out");
    assert_eq!(
        names(&out),
        ["dataset.json", "images", "images.jsonl", "labels"]
    );
    let images = names(&out.join("images"));
    assert_eq!(images.len(), 4);
    for image in &images {
        let labels = image.replace(".tif", "_masks.tif");
        let labels = io::read_labels(out.join("labels").join(labels)).unwrap();
        let (pixels, provenance) =
            io::read(out.join("images").join(image), &Axes::default()).unwrap();
        assert_eq!(pixels.size(), labels.size());
        assert_eq!(provenance.dtype, "u8");
    }
    let told_json = manifest(&out);
    assert_eq!(told_json["complete"], true);
    assert_eq!(told_json["kind"], "livecell");
    assert_eq!(told_json["split"], "test");
    assert_eq!(told_json["images"], 4);
    assert_eq!(told_json["cells"], 64);
    let diameter = told_json["median_diameter"].as_f64().unwrap();
    assert!((10. ..16.).contains(&diameter), "{diameter}");
    assert_eq!(told_json["files"][0]["sha256"].as_str().unwrap().len(), 64);
    // Labels against themselves are perfect: evaluate pairs them.
    std::fs::create_dir(here.join("pred")).unwrap();
    for image in &images {
        let stem = image.strip_suffix(".tif").unwrap();
        std::fs::copy(
            out.join(format!("labels/{stem}_masks.tif")),
            here.join(format!("pred/{stem}_cp_masks.tif")),
        )
        .unwrap();
    }
    let scored = told(
        here,
        &["evaluate", "--pred", "pred", "--truth", "out/labels"],
    );
    assert!(
        scored.contains("4 images") && scored.contains("1.000"),
        "{scored}"
    );
}

#[test]
fn a_command_that_is_given_again_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fixtures::tissuenet(&here.join("tissuenet"), "1.1");
    let arguments = [
        "dataset",
        "tissuenet",
        "--split",
        "val",
        "--compartment",
        "nuclear",
        "--out",
        "out",
    ];
    selfadapt(here).args(arguments).assert().success();
    let whole = std::fs::read(here.join("out/dataset.json")).unwrap();
    let image = here.join("out/images/Breast_00001.tif");
    let (first, second) = (
        here.join("out/images/Breast_00000.tif"),
        std::fs::read(&image).unwrap(),
    );
    // As if it had been killed within its second image: half a line, no image.
    let record = here.join("out/images.jsonl");
    let lines = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, &lines[..lines.len() / 2]).unwrap();
    std::fs::remove_file(&image).unwrap();
    let before = std::fs::metadata(&first).unwrap().modified().unwrap();
    selfadapt(here).args(arguments).assert().success();
    assert_eq!(std::fs::read(here.join("out/dataset.json")).unwrap(), whole);
    assert_eq!(std::fs::read(&image).unwrap(), second);
    assert_eq!(
        std::fs::metadata(&first).unwrap().modified().unwrap(),
        before
    );
    assert_eq!(std::fs::read_to_string(&record).unwrap(), lines);
    // Another request does not mix with it.
    let other = ["dataset", "tissuenet", "--split", "val", "--out", "out"];
    assert_told!("dataset_occupied", told(here, &other));
    std::fs::create_dir_all(here.join("foreign/images")).unwrap();
    let foreign = ["dataset", "tissuenet", "--split", "val", "--out", "foreign"];
    assert!(told(here, &foreign).starts_with("exit code 3"));
}

#[test]
fn a_limit_draws_by_its_seed() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fixtures::pairs(&here.join("pairs"), 9);
    for (out, seed) in [("a", "1"), ("b", "1"), ("c", "2")] {
        let arguments = [
            "dataset", "pairs", "--limit", "3", "--seed", seed, "--out", out,
        ];
        selfadapt(here).args(arguments).assert().success();
    }
    let of = |out: &str| names(&here.join(out).join("images"));
    assert_eq!(of("a").len(), 3);
    assert_eq!(of("a"), of("b"));
    assert_ne!(of("a"), of("c"));
    let json = selfadapt(here)
        .args([
            "dataset", "pairs", "--limit", "3", "--seed", "1", "--out", "a", "--json",
        ])
        .output()
        .unwrap();
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(
        (&json["images"], &json["request"]["seed"]),
        (&3.into(), &1.into())
    );
}

#[test]
fn an_image_that_is_damaged_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fixtures::pairs(&here.join("pairs"), 3);
    std::fs::write(here.join("pairs/cell_1.tif"), "no image").unwrap();
    let told = told(here, &["dataset", "pairs", "--out", "out"]);
    assert!(
        told.starts_with("exit code 1") && told.contains("cell_1"),
        "{told}"
    );
    assert_eq!(
        names(&here.join("out/images")),
        ["cell_0.tif", "cell_2.tif"]
    );
    assert_eq!(manifest(&here.join("out"))["failed"][0]["image"], "cell_1");
}

#[test]
fn says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("empty")).unwrap();
    assert_told!(
        "dataset_unknown",
        told(here, &["dataset", "empty", "--out", "out"])
    );
    fixtures::livecell(&here.join("livecell"), &["A172"]);
    assert_told!(
        "dataset_split",
        told(here, &["dataset", "livecell", "--out", "out"])
    );
    std::fs::remove_dir_all(here.join("livecell/images")).unwrap();
    let arguments = ["dataset", "livecell", "--split", "val", "--out", "out"];
    assert_told!("dataset_no_images", told(here, &arguments));
    let arguments = [
        "dataset",
        "livecell",
        "--split",
        "val",
        "--out",
        "livecell/out",
    ];
    assert_told!("dataset_inside", told(here, &arguments));
    assert!(!here.join("out").exists());
}
