//! `selfadapt segment`, `adapt` and `models` on Mesmer's network: a small one of random weights.

use std::path::Path;

use ndarray::Array3;
use selfadapt_core::io::{read_labels, tiff};

use crate::{selfadapt, told};

/// A folder with the small network and an image of `channels` channels.
fn folder(channels: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/mesmer.onnx");
    std::fs::copy(golden, folder.path().join("mesmer.onnx")).unwrap();
    let value = |(c, y, x): (usize, usize, usize)| {
        let wave = ((y + 7 * c) as f32 * 0.4).sin() + (x as f32 * 0.3).cos();
        (100. + 50. * wave) as u8
    };
    let image = Array3::from_shape_fn((channels, 96, 80), value);
    tiff::write(folder.path().join("tissue.tif"), image.view()).unwrap();
    folder
}

const SEGMENT: [&str; 6] = [
    "segment",
    "--model",
    "mesmer.onnx",
    "--out",
    "out",
    "tissue.tif",
];

#[test]
fn cells_and_nuclei_go_to_files_of_their_own() {
    let folder = folder(2);
    let run = |more: &[&str]| {
        let mut command = selfadapt(folder.path());
        command
            .args(SEGMENT)
            .args(["--pixel-size", "0.5"])
            .args(more);
        command.assert().success();
    };
    let exists = |name: &str| folder.path().join("out").join(name).exists();
    run(&["--set", "min_size=1"]);
    assert!(exists("tissue_cp_masks.tif") && !exists("tissue_nuclear_cp_masks.tif"));
    run(&["--set", "compartment=both", "--save", "masks,outlines"]);
    assert!(exists("tissue_nuclear_cp_masks.tif") && exists("tissue_nuclear_cp_outlines.txt"));
    let nuclei = folder.path().join("out/tissue_nuclear_cp_masks.tif");
    let nuclei = read_labels(nuclei).unwrap();
    assert_eq!(nuclei.size(), (96, 80));
    let report = std::fs::read(folder.path().join("out/segment.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(report["images"][0]["others"]["nuclear"], nuclei.count());
    assert_eq!(report["images"][0]["outputs"].as_array().unwrap().len(), 4);
    // By themselves they are the first kind.
    run(&["--set", "compartment=nuclear"]);
    let alone = read_labels(folder.path().join("out/tissue_cp_masks.tif")).unwrap();
    assert_eq!(alone, nuclei);
}

#[test]
fn a_missing_pixel_size_and_a_missing_channel_are_told() {
    let two = folder(2);
    let missing = told(two.path(), &SEGMENT);
    assert!(
        missing.contains("exit code 1") || missing.contains("exit code 2"),
        "{missing}"
    );
    assert!(missing.contains("give --pixel-size"), "{missing}");
    let adapt = [
        "adapt",
        "--model",
        "mesmer.onnx",
        "--out",
        "run",
        "tissue.tif",
    ];
    let missing = told(two.path(), &adapt);
    assert!(missing.contains("give --pixel-size"), "{missing}");
    assert!(!two.path().join("run").exists());

    let one = folder(1);
    let mut arguments = SEGMENT.to_vec();
    arguments.extend(["--pixel-size", "0.5"]);
    let said = told(one.path(), &arguments);
    assert!(
        said.contains("nuclear and membrane, and the image has one"),
        "{said}"
    );
    arguments.extend(["--channels", "1,0"]);
    selfadapt(one.path()).args(&arguments).assert().success();
}

#[test]
fn a_model_is_adapted_and_written_back_as_onnx() {
    let folder = folder(2);
    let info = told(folder.path(), &["models", "info", "mesmer.onnx"]);
    assert!(
        info.contains("model     mesmer") && info.contains("whole-cell distance"),
        "{info}"
    );
    let adapt = "adapt --model mesmer.onnx --out run --pixel-size 0.5 --steps 2 --mode frozen --no-stop tissue.tif";
    let adapt: Vec<&str> = adapt.split(' ').collect();
    selfadapt(folder.path()).args(&adapt).assert().success();
    let adapted = std::fs::read(folder.path().join("run/adapted")).unwrap();
    let original = std::fs::read(folder.path().join("mesmer.onnx")).unwrap();
    assert_eq!(adapted.len(), original.len());
    assert!(adapted != original);
    // The pixel size travels with a run, and the file is a model by itself.
    let segment = ["segment", "--model", "run", "--out", "out", "tissue.tif"];
    selfadapt(folder.path()).args(segment).assert().success();
    let convert = ["models", "convert", "run", "again.onnx"];
    selfadapt(folder.path()).args(convert).assert().success();
    let again = std::fs::read(folder.path().join("again.onnx")).unwrap();
    assert!(again == adapted, "other weights");
}
