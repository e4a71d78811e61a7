//! Datasets that are half there, of an unknown version or layout, or absurd: refused, with what was found and what to do.

use std::path::Path;

use selfadapt_core::io::datasets::{Dataset, Kind, Split, Wish};

use crate::dataset_fixtures as fixtures;
use crate::dataset_layouts::{open, split};
use crate::numpy_fixtures as numpy;

#[test]
fn half_a_livecell_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fixtures::livecell(folder.path(), &["A172"]);
    let file = folder
        .path()
        .join("annotations/LIVECell/livecell_coco_test.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    let refused = |text: &str, told: &str| {
        std::fs::write(&file, text).unwrap();
        let reason = open(folder.path(), split(Split::Test)).unwrap_err();
        assert!(
            reason.contains(told) && reason.contains("livecell_coco_test.json"),
            "{reason}"
        );
    };
    refused(&whole[..whole.len() / 2], "cut off");
    refused("", "cut off");
    refused("[1, 2]", "no COCO");
    refused("{\"images\": []}", "found no annotations");
    refused("{\"images\": [], \"annotations\": []}", "list no image");
    refused(
        &whole.replace("\"width\":96", "\"width\":4000000000"),
        "1 to 16384",
    );
    refused(&whole.replace("\"width\":96", "\"width\":-1"), "no COCO");
    let empty = fixtures::coco(
        serde_json::from_str::<serde_json::Value>(&whole).unwrap()["images"]
            .as_array()
            .unwrap()
            .clone(),
        vec![],
    );
    refused(&empty.to_string(), "is empty");
    std::fs::write(&file, &whole).unwrap();
    let image = folder
        .path()
        .join("images/livecell_test_images/A172/A172_Phase_test_1_00d00h00m_1.tif");
    std::fs::remove_file(image).unwrap();
    let reason = open(folder.path(), split(Split::Test)).unwrap_err();
    assert!(
        reason.contains("1 of 2 images have no file")
            && reason.contains("sartorius")
            && reason.contains("CC BY-NC"),
        "{reason}"
    );
    let wish = Wish {
        skip_unpaired: true,
        ..split(Split::Test)
    };
    let dataset = open(folder.path(), wish).unwrap();
    assert_eq!((dataset.names().len(), dataset.notes.len()), (1, 1));
}

#[test]
fn what_is_no_tissuenet_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let refused = |path: &Path, told: &str| {
        let reason = open(path, Wish::default()).unwrap_err();
        assert!(reason.contains(told), "{reason}");
    };
    let (x, y) = (
        numpy::npy(&numpy::zeros(&[2, 8, 8, 2])),
        numpy::zeros(&[2, 8, 9, 2]),
    );
    let other = at("tissuenet_v1.2_test.npz");
    numpy::npz(&other, &[("X", x.clone()), ("y", x.clone())]);
    refused(&other, "expected version 1.0 or 1.1");
    let other = at("tissuenet_v1.0_test.npz");
    numpy::npz(&other, &[("X", x.clone())]);
    refused(&other, "found X");
    numpy::npz(&other, &[("X", x.clone()), ("y", numpy::npy(&y))]);
    refused(&other, "[2, 8, 9, 2]");
    let tissues = numpy::npy_text(&["Skin"]);
    numpy::npz(
        &other,
        &[("X", x.clone()), ("y", x.clone()), ("tissue_list", tissues)],
    );
    refused(&other, "tells of 1 images");
    // Half a download has no index at its end.
    let bytes = std::fs::read(&other).unwrap();
    std::fs::write(&other, &bytes[..bytes.len() / 2]).unwrap();
    refused(&other, "cut off");
    // A header that promises more than follows is refused before memory is set aside.
    let mut absurd = numpy::header("<f4", &[1_000_000, 30_000, 30_000, 2]);
    absurd.extend([0; 64]);
    numpy::npz(&other, &[("X", absurd.clone()), ("y", absurd)]);
    refused(&other, "only 64 follow");
    let mut negative = numpy::zeros(&[1, 8, 8, 2]);
    negative[[0, 3, 3, 0]] = -2.;
    numpy::npz(
        &other,
        &[
            ("X", numpy::npy(&numpy::zeros(&[1, 8, 8, 2]))),
            ("y", numpy::npy(&negative)),
        ],
    );
    let mut told = String::new();
    open(&other, Wish::default())
        .unwrap()
        .visit(&[0], &mut |_, sample| {
            told = sample.unwrap_err().to_string();
            Ok(())
        })
        .unwrap();
    assert!(
        told.contains("image 0") && told.contains("found -2 in row 3"),
        "{told}"
    );
}

#[test]
fn layouts_that_are_not_known_are_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("readme.md"), "").unwrap();
    let reason = open(folder.path(), Wish::default()).unwrap_err();
    for part in [
        "found 1 .md",
        "livecell_coco_",
        "tissuenet_v1",
        "_data.npz",
        "_img.png",
        "_masks.tif",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    let reason = Dataset::open(folder.path(), Some(Kind::Livecell), &Wish::default()).unwrap_err();
    let reason = reason.to_string();
    assert!(
        reason.contains("found 1 .md") && reason.contains("sartorius"),
        "{reason}"
    );
    let wish = Wish {
        tissue: Some("Skin".into()),
        ..Wish::default()
    };
    fixtures::pairs(folder.path(), 1);
    let reason = open(folder.path(), wish).unwrap_err();
    assert!(reason.contains("pairs has no tissues"), "{reason}");
    assert!(
        open(&folder.path().join("none"), Wish::default())
            .unwrap_err()
            .contains("no such")
    );
}
