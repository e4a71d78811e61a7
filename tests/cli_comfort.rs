//! Cellpose's own command lines, the plan of a run, named models, doctor, completions and manual pages.

use std::path::Path;

use serde_json::Value;

use crate::{assert_told, assets, selfadapt, told};

/// A folder with the real checkpoint as `model`, and an image.
fn folder() -> Option<tempfile::TempDir> {
    let assets = assets::dir()?;
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(assets.join(from), to).unwrap();
    };
    copy("cellpose/cyto_scellseg.pt", "model.pt");
    copy("data/mouse_00.tif", "images/mouse_00.tif");
    Some(folder)
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = selfadapt(folder).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_command_of_cellpose_needs_only_its_first_word_changed() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let cellpose = "segment --dir images --pretrained_model model.pt --chan 0 --diameter 26. --flow_threshold 0.4 \
                    --cellprob_threshold 0.0 --min_size 15 --save_tif --save_rois --use_gpu --verbose";
    let arguments: Vec<&str> = cellpose.split_whitespace().collect();
    assert_told!("cellpose_segment", told(here, &arguments));
    for name in [
        "mouse_00_cp_masks.tif",
        "mouse_00_seg.npy",
        "mouse_00_rois.zip",
    ] {
        assert!(here.join("images").join(name).is_file(), "{name}");
    }
    let ours = [
        "segment",
        "--model",
        "model.pt",
        "--diameter",
        "26",
        "--out",
        "ours",
        "images",
    ];
    assert!(told(here, &ours).starts_with("exit code 0"));
    let masks =
        |folder: &str| std::fs::read(here.join(folder).join("mouse_00_cp_masks.tif")).unwrap();
    assert!(masks("images") == masks("ours"));
}

#[test]
fn flags_without_counterpart_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, flags) in [
        ("cellpose_3d", &["--do_3D"][..]),
        ("cellpose_train", &["--train"]),
        ("cellpose_levels", &["--look_one_level_down"]),
        ("cellpose_add_model", &["--add_model", "x"]),
    ] {
        let arguments = [&["segment", "--dir", "images"], flags].concat();
        assert_told!(name, told(folder.path(), &arguments));
    }
}

#[test]
fn crops_are_no_larger_than_the_images_unless_a_file_says_so() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let short = "[adapt]\nbatch = 1\nviews = 1\n[watch]\ncrops = 3\n";
    std::fs::write(here.join("short.toml"), short).unwrap();
    let named = short.replace("batch", "crop = 160\nbatch");
    std::fs::write(here.join("named.toml"), named).unwrap();
    let plan = |config: &str, diameter: &str| {
        let arguments = "adapt --plan --json --model model.pt --config";
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        arguments.extend([config, "--diameter", diameter, "images"]);
        json(here, &arguments)
    };
    // The image has 256 pixels a side, which are seen at 30 / diameter of their size.
    let half = plan("short.toml", "60");
    assert_eq!(half["crop_pixels"], 128);
    assert_eq!(half["validation_crops"], 1);
    assert_eq!(plan("named.toml", "60")["crop_pixels"], 160);
    let larger = plan("short.toml", "15");
    assert_eq!(larger["crop_pixels"], 224);
    // Several of the one image, which is 512 pixels wide now.
    assert_eq!(larger["validation_crops"], 3);
}

#[test]
fn a_plan_says_what_a_run_would_do_and_writes_nothing() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let small = "[adapt]\ncrop = 64\nbatch = 2\nviews = 1\n[watch]\ncrops = 2\n";
    std::fs::write(here.join("small.toml"), small).unwrap();
    let plan = [
        "adapt",
        "--plan",
        "--model",
        "model.pt",
        "--diameter",
        "26",
        "--config",
        "small.toml",
        "--threads",
        "2",
    ];
    let said = told(here, &[&plan[..], &["--out", "run", "images"]].concat());
    insta::with_settings!({
        filters => vec![
            (r"[\d.]+ s a step, [\d.]+ s a look: \d+ \w+ at most", "[time] s a step, [time] s a look: [time] at most"),
            (r"memory    .*", "memory    [machine]"),
        ],
        omit_expression => true,
        prepend_module_to_snapshot => false,
        snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/snapshots"),
    }, {
        insta::assert_snapshot!("adapt_plan", said);
    });
    let mut names: Vec<_> = std::fs::read_dir(here)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["images", "model.pt", "small.toml"]);

    // Cellpose's own command line, and a setting of the model.
    let cellpose = [
        "--dir",
        "images",
        "--pretrained_model",
        "model.pt",
        "--flow_threshold",
        "0.6",
        "--json",
    ];
    let plan = json(
        here,
        &[
            &["adapt", "--plan", "--config", "small.toml"],
            &cellpose[..],
        ]
        .concat(),
    );
    assert_eq!(plan["sizing"]["diameter"], 30.);
    assert_eq!(plan["images"], 1);
    let seconds = &plan["seconds"];
    let [step, look, whole] =
        ["step", "look", "whole_run_at_most"].map(|key| seconds[key].as_f64().unwrap());
    assert!(step > 0. && look > 0. && whole > 30. * step, "{seconds}");
    let refused = told(
        here,
        &[
            "adapt",
            "--plan",
            "--model",
            "model.pt",
            "--set",
            "flowthreshold=1",
            "images",
        ],
    );
    assert!(refused.contains("no such setting"), "{refused}");
}

#[test]
fn an_adapted_model_gets_a_name_here_and_in_cellpose() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    std::fs::create_dir(here.join("no-models")).unwrap();
    std::fs::write(here.join("no-models/gui_models.txt"), "gone\n").unwrap();
    let add = |name: &str, more: &[&str]| {
        told(
            here,
            &[&["models", "add", "model.pt", "--name", name], more].concat(),
        )
    };
    assert_told!("models_add", add("mine", &["--to-cellpose"]));
    assert_told!("models_add_taken", add("mine", &[]));
    assert_told!("models_add_famous", add("cyto3", &[]));
    assert!(add("mine", &["--to-cellpose", "--force"]).starts_with("exit code 0"));
    let list = std::fs::read_to_string(here.join("no-models/gui_models.txt")).unwrap();
    assert_eq!(list, "gone\nmine\n");
    let info = json(here, &["models", "info", "mine", "--json"]);
    assert_eq!(info["format"], "cellpose");
    let listed = json(here, &["models", "list", "--here", "--json"]);
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mine", "mine"], "here and in Cellpose's list");
    // The copy in Cellpose's folder is a checkpoint by itself.
    let info = json(here, &["models", "info", "no-models/mine", "--json"]);
    assert_eq!(info["format"], "cellpose");
    assert_told!("models_remove", told(here, &["models", "remove", "mine"]));
    assert_told!(
        "models_remove_not_ours",
        told(here, &["models", "remove", "mine"])
    );
    assert_told!(
        "models_remove_unknown",
        told(here, &["models", "remove", "nine"])
    );
}

#[test]
fn a_name_that_a_package_downloaded_is_found() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    std::fs::create_dir(here.join("no-models")).unwrap();
    std::fs::rename(here.join("model.pt"), here.join("no-models/cyto2torch_0")).unwrap();
    let info = json(here, &["models", "info", "cyto2", "--json"]);
    assert_eq!(info["path"], "no-models/cyto2torch_0");
    let fetched = told(here, &["models", "fetch", "cyto2", "--offline"]);
    assert!(
        fetched.contains("is here already, no-models/cyto2torch_0"),
        "{fetched}"
    );
    assert_told!(
        "models_remove_package",
        told(here, &["models", "remove", "cyto2"])
    );
}

#[test]
fn the_list_of_models_is_that_of_the_field() {
    let folder = tempfile::tempdir().unwrap();
    assert_told!("models_list", told(folder.path(), &["models", "list"]));
}

#[test]
fn doctor_tells_the_machine_and_the_folders() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("no-models")).unwrap();
    std::fs::write(here.join("no-models/cyto3"), []).unwrap();
    let said = told(here, &["doctor", "--threads", "2"]);
    for part in [
        "exit code 0",
        "threads    2",
        "devices    cpu",
        "models     home/.selfadapt/models, not there",
        "cellpose   no-models: cyto3",
        "variable   CELLPOSE_LOCAL_MODELS_PATH=no-models",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let report = json(here, &["doctor", "--json"]);
    assert_eq!(report["devices"][0], "cpu");
    // Either there is another one, or a reason why not.
    let devices = report["devices"].as_array().unwrap().iter();
    let none = !devices
        .clone()
        .any(|device| device.as_str().unwrap().starts_with("cuda"));
    let tiles = devices
        .clone()
        .any(|device| device.as_str().unwrap().starts_with("cpu:bf16"));
    assert_eq!(tiles, selfadapt_kernels::conv2d::half_tiles(), "{report}");
    assert_eq!(none, report["no_gpu"].is_string(), "{report}");
    assert_eq!(report["folders"][1]["state"], "writable");
}

#[test]
fn shells_and_manual_readers_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let said = told(here, &["completions", shell]);
        for word in ["segment", "flow-threshold", "fetch"] {
            assert!(said.contains(word), "{shell}: {word}");
        }
    }
    assert_told!("man", told(here, &["man", "--out", "man"]));
    let page = std::fs::read_to_string(here.join("man/selfadapt-models-fetch.1")).unwrap();
    assert!(
        page.starts_with(".ie") || page.contains(".TH selfadapt-models-fetch 1"),
        "{page}"
    );
    assert!(page.contains("SELFADAPT_MODELS_URL"));
}
