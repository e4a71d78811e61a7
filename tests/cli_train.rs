//! `selfadapt train`: a small training from scratch, gone on with, used, and what it says of bad input.

use std::path::Path;

use serde_json::Value;

use crate::{selfadapt, told};

/// Drawn cells with labels, as the demonstration draws them.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    run(
        folder.path(),
        "demo --draw source --images 3 --side 128 --out cells",
    );
    folder
}

fn run(folder: &Path, arguments: &str) -> String {
    let output = selfadapt(folder)
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

const TRAIN: &str = "train --threads 2 --from-scratch --model cellpose --set nbase=[2,4,8] --channels 1,2 --crop 64 \
                     --batch 2 --save-every 1";

#[test]
fn trains_from_scratch_and_goes_on_and_is_used() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let whole = run(
        folder.path(),
        &format!("{TRAIN} --epochs 3 --json --out whole cells"),
    );
    let manifest: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(manifest["epochs"], 3);
    assert_eq!(manifest["inputs"].as_array().unwrap().len(), 6);
    assert!(manifest["loss"].as_f64().unwrap().is_finite());
    for file in [
        "config.toml",
        "manifest.json",
        "run.jsonl",
        "model.json",
        "trained",
        "snapshots/step-000002.safetensors",
    ] {
        assert!(at("whole").join(file).is_file(), "{file}");
    }

    // Two epochs, and then a third one, end where three do.
    run(
        folder.path(),
        &format!("{TRAIN} --epochs 2 --out parts cells"),
    );
    let config = std::fs::read_to_string(at("parts/config.toml")).unwrap();
    std::fs::write(
        at("parts/config.toml"),
        config.replace("epochs = 2", "epochs = 3"),
    )
    .unwrap();
    run(folder.path(), "train --threads 2 --resume parts");
    let delivered = |run: &str| std::fs::read(at(run).join("delivered.safetensors")).unwrap();
    assert!(
        delivered("whole") == delivered("parts"),
        "the run ended elsewhere"
    );
    let lines = std::fs::read_to_string(at("parts/run.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 3, "{lines}");

    // Not with other images.
    std::fs::copy(at("cells/cells_000.tif"), at("cells/new.tif")).unwrap();
    std::fs::copy(at("cells/cells_000_masks.tif"), at("cells/new_masks.tif")).unwrap();
    let resume = ["train", "--threads", "2", "--resume", "parts"];
    let said = told(folder.path(), &resume);
    assert!(
        said.starts_with("exit code 2") && said.contains("this run began without"),
        "{said}"
    );
    for new in ["cells/new.tif", "cells/new_masks.tif"] {
        std::fs::remove_file(at(new)).unwrap();
    }

    // Its own settings make it again, and it is a model that others start from.
    run(
        folder.path(),
        "train --threads 2 --config whole/config.toml --out again",
    );
    assert!(delivered("whole") == delivered("again"));
    run(
        folder.path(),
        "train --model again --epochs 1 --crop 64 --mask_filter _masks --out finer cells",
    );
    run(
        folder.path(),
        "segment --model finer --out masks cells/cells_000.tif",
    );
    let said = told(folder.path(), &["models", "info", "whole/trained"]);
    assert!(
        said.contains("[2, 4, 8]") || said.contains("2,4,8"),
        "{said}"
    );
}

/// A small StarDist network that looks at the cells' first channel.
const STARS: &str = "train --threads 2 --from-scratch --model stardist --set unet_n_filter_base=8 --set unet_n_depth=3 \
                     --set net_conv_after_unet=16 --set n_rays=16 --channels 1 --set patch=96 --crops-per-epoch 8 \
                     --learning-rate 3e-3";

/// AP at an IoU of 0.5 of a model on the images that `folder` holds.
fn score(folder: &Path, model: &str) -> f64 {
    let images = "cells/cells_000.tif cells/cells_001.tif cells/cells_002.tif";
    let masks = format!("masks-of-{}", model.replace('/', "-"));
    run(
        folder,
        &format!("segment --model {model} --out {masks} {images}"),
    );
    let evaluate = "--truth cells --thresholds 0.5 --json scores.json";
    run(folder, &format!("evaluate --pred {masks} {evaluate}"));
    let scores = std::fs::read_to_string(folder.join("scores.json")).unwrap();
    let scores: Value = serde_json::from_str(&scores).unwrap();
    scores["overall"]["average_precision"][0]["ap"]
        .as_f64()
        .unwrap()
}

#[test]
fn a_stardist_network_learns_to_see_drawn_cells() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    // The first epoch's learning rate is 0, so these are the weights as they were drawn.
    run(
        folder.path(),
        &format!("{STARS} --epochs 1 --out drawn cells"),
    );
    run(
        folder.path(),
        &format!("{STARS} --epochs 300 --out taught cells"),
    );
    let (before, after) = (
        score(folder.path(), "drawn"),
        score(folder.path(), "taught"),
    );
    println!("AP@0.5 from {before} to {after}");
    assert!(before < 0.1 && after > 0.5, "from {before} to {after}");

    // What is written for StarDist's own package is the same model.
    for file in ["config.json", "thresholds.json", "weights_best.h5"] {
        assert!(at("taught/trained").join(file).is_file(), "{file}");
    }
    assert_eq!(score(folder.path(), "taught/trained"), after);
    let masks = |model: &str| {
        std::fs::read(at(&format!("masks-of-{model}/cells_000_cp_masks.tif"))).unwrap()
    };
    assert!(masks("taught") == masks("taught-trained"));

    // Going on after two epochs leads where three do, and it can be taught some more.
    let few = format!("{STARS} --save-every 1");
    run(
        folder.path(),
        &format!("{few} --epochs 3 --out whole cells"),
    );
    run(
        folder.path(),
        &format!("{few} --epochs 2 --out parts cells"),
    );
    let config = std::fs::read_to_string(at("parts/config.toml")).unwrap();
    assert!(
        config.contains("\ncrop = 96\n"),
        "the model's patch: {config}"
    );
    let config = config.replace("epochs = 2", "epochs = 3");
    std::fs::write(at("parts/config.toml"), config).unwrap();
    run(folder.path(), "train --threads 2 --resume parts");
    let delivered = |run: &str| std::fs::read(at(run).join("delivered.safetensors")).unwrap();
    assert!(
        delivered("whole") == delivered("parts"),
        "the run ended elsewhere"
    );
    run(
        folder.path(),
        "train --model taught/trained --epochs 1 --crop 96 --out finer cells",
    );
}

#[test]
fn bad_input_is_named() {
    let folder = folder();
    let told = |arguments: &str| told(folder.path(), &arguments.split(' ').collect::<Vec<_>>());
    let says = |arguments: &str, reason: &str| {
        let told = told(arguments);
        assert!(told.starts_with("exit code 2"), "{arguments}: {told}");
        assert!(told.contains(reason), "{arguments}: {told}");
    };
    let rename = |from: &str, to: &str| {
        std::fs::rename(folder.path().join(from), folder.path().join(to)).unwrap();
    };
    rename("cells/cells_000_masks.tif", "elsewhere.tif");
    says(
        &format!("{TRAIN} --out run cells"),
        "1 file without labels: ",
    );
    rename("cells/cells_000.tif", "image.tif");
    rename("elsewhere.tif", "cells/cells_000_masks.tif");
    says(
        &format!("{TRAIN} --out run cells"),
        "1 file without their image: ",
    );
    says(
        &format!("{TRAIN} --out run --min-objects 1000 --skip-unpaired cells"),
        "none of 2 label images has 1000 objects",
    );
    // Labels of another image: sizes differ.
    run(
        folder.path(),
        "demo --draw source --images 1 --side 96 --out smaller",
    );
    rename("smaller/cells_000.tif", "cells/cells_000.tif");
    says(
        &format!("{TRAIN} --out run cells"),
        "expected labels of 96 x 96 pixels as the image has, found 128 x 128",
    );
    says(
        "train --from-scratch --model mesmer --out run cells",
        "a mesmer model cannot be trained from labels here",
    );
    says(
        &format!("{STARS} --set train_dist_loss=huber --out run cells"),
        "unknown variant `huber`",
    );
    says("train --model nothing.pt --out run cells", "nothing.pt");
    says("train --from-scratch --out run cells", "--model");
    says(
        &format!("{TRAIN} --learning-rate 0 --out run cells"),
        "learning_rate: expected a positive number",
    );
    assert!(
        !folder.path().join("run").exists(),
        "a refused run left a folder"
    );
}
