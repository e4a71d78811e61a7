//! `selfadapt adapt`: a real run in small, resumed bit for bit, and what it says of bad input.

use std::path::Path;
#[cfg(unix)]
use std::process::{Command, Stdio};
#[cfg(unix)]
use std::time::Duration;

use serde_json::Value;

use crate::{assets, selfadapt, told};

/// Small enough for a test: crops of 64 pixels, two of them, one view.
const SMALL: &str = "\
[adapt]
crop = 64
batch = 2
views = 1

[watch]
every = 2
crops = 2
stop = false

[choice]
steps = 2
by = [\"inconsistency\"]
margin = 0.0
limits = {}
";

/// A folder with two mouse images, the checkpoint, and the small settings.
pub fn folder() -> Option<tempfile::TempDir> {
    let assets = assets::dir()?;
    let folder = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = folder.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(assets.join(from), to).unwrap();
    };
    copy("cellpose/cyto_scellseg.pt", "cyto.pt");
    copy("data/mouse_00.tif", "images/mouse_00.tif");
    copy("data/mouse_01.tif", "images/mouse_01.tif");
    copy("data/mouse_01_masks.tif", "labels/mouse_01_masks.tif");
    std::fs::write(folder.path().join("small.toml"), SMALL).unwrap();
    Some(folder)
}

/// Arguments of a run in `out`, and more.
pub fn adapt<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec![
        "adapt",
        "--model",
        "cyto.pt",
        "--out",
        out,
        "--config",
        "small.toml",
    ];
    all.extend([
        "--diameter",
        "26",
        "--steps",
        "5",
        "--threads",
        "2",
        "images",
    ]);
    all.extend(more);
    all
}

fn manifest(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap()
}

pub fn delivered(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("delivered.safetensors")).unwrap()
}

#[test]
fn adapts_and_goes_on_after_an_interruption_to_the_same_bits() {
    let Some(folder) = folder() else { return };
    let run = |arguments: &[&str]| {
        let output = selfadapt(folder.path()).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let last: Value =
        serde_json::from_str(&run(&adapt("whole", &["--json", "--truth", "labels"]))).unwrap();
    assert_eq!(last["delivered_step"], 5);
    assert_eq!(last["stopped_by"], "end-of-schedule");
    assert!(
        last["verdict"].as_str().unwrap().contains("step 5"),
        "{last}"
    );
    let whole = folder.path().join("whole");
    for file in [
        "config.toml",
        "manifest.json",
        "run.jsonl",
        "adapted",
        "model.json",
        "curves.svg",
    ] {
        assert!(whole.join(file).is_file(), "{file}");
    }
    let truth = &manifest(&whole)["truth"];
    assert!(truth["base_ap50"].as_f64().unwrap() > 0.3, "{truth}");

    // No time at all: one step is taken, looked at, and delivered.
    run(&adapt("broken", &["--budget", "0s"]));
    let broken = folder.path().join("broken");
    assert_eq!(manifest(&broken)["stopped_by"], "budget");
    assert_ne!(delivered(&broken), delivered(&whole));
    run(&["adapt", "--threads", "2", "--resume", "broken"]);
    assert!(
        delivered(&broken) == delivered(&whole),
        "the resumed run ended elsewhere"
    );

    // The run folder is a model, with the diameter that it was adapted at.
    let said = run(&[
        "segment", "--model", "whole", "--out", "masks", "images", "--json",
    ]);
    assert!(
        folder.path().join("masks/mouse_00_cp_masks.tif").is_file(),
        "{said}"
    );
    // The written config runs again to the same weights.
    run(&[
        "adapt",
        "--threads",
        "2",
        "--config",
        "whole/config.toml",
        "--out",
        "again",
    ]);
    assert!(
        delivered(&folder.path().join("again")) == delivered(&whole),
        "config.toml is not the whole run"
    );
}

#[test]
fn keeps_the_model_where_no_trial_improves_on_it() {
    let Some(folder) = folder() else { return };
    // A distance is never below zero, so no trial can be the better one.
    let settings = SMALL.replace("inconsistency", "embedding-distance");
    std::fs::write(folder.path().join("small.toml"), settings).unwrap();
    let output = selfadapt(folder.path())
        .args(adapt("run", &["--json"]))
        .output()
        .unwrap();
    let last: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(last["delivered_step"], 0, "{last}");
    assert_eq!(last["stopped_by"], "choice");
    assert!(
        last["verdict"]
            .as_str()
            .unwrap()
            .starts_with("keep your model"),
        "{last}"
    );
    let record = std::fs::read_to_string(folder.path().join("run/run.jsonl")).unwrap();
    let kinds: Vec<String> = record
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].to_string())
        .collect();
    assert_eq!(
        kinds,
        ["reading", "outlines", "trial", "trial", "choice"].map(|kind| format!("\"{kind}\""))
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_delivers_the_best_so_far() {
    let Some(folder) = folder() else { return };
    let settings = SMALL.replace("steps = 2\nby = [\"inconsistency\"]", "modes = []");
    std::fs::write(folder.path().join("small.toml"), settings).unwrap();
    let mut arguments = adapt("run", &[]);
    let steps = arguments.iter().position(|word| *word == "5").unwrap();
    arguments[steps] = "500";
    let child = Command::new(env!("CARGO_BIN_EXE_selfadapt"))
        .args(arguments)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let run = folder.path().join("run");
    let seen = || std::fs::read_to_string(run.join("run.jsonl")).unwrap_or_default();
    while !seen().contains("\"step\":3,") {
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("stopping after this step"), "{said}");
    let manifest = manifest(&run);
    assert_eq!(manifest["stopped_by"], "user");
    let step = manifest["delivered_step"].as_u64().unwrap();
    assert!((3..500).contains(&step), "{manifest}");
    assert!(!delivered(&run).is_empty());
}

#[test]
fn refuses_what_cannot_work_and_loses_nothing() {
    let Some(folder) = folder() else { return };
    let say = |arguments: &[&str]| told(folder.path(), arguments);
    let fails = |arguments: &[&str], expected: &str| {
        let said = say(arguments);
        assert!(
            said.starts_with("exit code 2") && said.contains(expected),
            "{said}"
        );
    };
    fails(&adapt("run", &["nowhere"]), "nowhere");
    std::fs::write(folder.path().join("zero.toml"), "[adapt]\nsteps = 0\n").unwrap();
    fails(
        &[
            "adapt",
            "--model",
            "cyto.pt",
            "--out",
            "run",
            "--config",
            "zero.toml",
            "images",
        ],
        "steps: expected at least 1",
    );
    std::fs::write(
        folder.path().join("typo.toml"),
        "[adapt]\nlearning_rat = 1\n",
    )
    .unwrap();
    fails(
        &[
            "adapt",
            "--model",
            "cyto.pt",
            "--out",
            "run",
            "--config",
            "typo.toml",
            "images",
        ],
        "learning_rat",
    );
    std::fs::write(folder.path().join("odd.toml"), "[adapt]\ncrop = 50\n").unwrap();
    fails(
        &[
            "adapt", "--model", "cyto.pt", "--out", "run", "--config", "odd.toml", "images",
        ],
        "crop: expected a multiple of 16, found 50",
    );
    assert!(
        !folder.path().join("run").exists(),
        "a refused run left a folder"
    );

    std::fs::create_dir(folder.path().join("blank")).unwrap();
    let black = image::GrayImage::new(64, 64);
    black.save(folder.path().join("blank/black.png")).unwrap();
    let blank = [
        "adapt",
        "--model",
        "cyto.pt",
        "--out",
        "black",
        "--diameter",
        "26",
        "blank",
    ];
    fails(&blank, "found only constant pixels");

    std::fs::create_dir(folder.path().join("taken")).unwrap();
    std::fs::write(folder.path().join("taken/config.toml"), "").unwrap();
    let said = say(&adapt("taken", &[]));
    assert!(
        said.starts_with("exit code 3") && said.contains("there is a run in this folder already"),
        "{said}"
    );
    fails(&["adapt", "--resume", "images"], "expected a run folder");

    // Another model or other images on the command line win over those of the file.
    std::fs::write(
        folder.path().join("other.toml"),
        "weights = \"gone.pt\"\ninputs = [\"gone\"]\n",
    )
    .unwrap();
    let wins = [
        "adapt",
        "--model",
        "cyto.pt",
        "--out",
        "wins",
        "--config",
        "other.toml",
        "--diameter",
        "26",
        "blank",
    ];
    fails(&wins, "found only constant pixels");
}

#[test]
fn degraded_copies_keep_their_labels() {
    let Some(folder) = folder() else { return };
    std::fs::copy(
        folder.path().join("labels/mouse_01_masks.tif"),
        folder.path().join("images/mouse_01_masks.tif"),
    )
    .unwrap();
    let arguments = [
        "degrade",
        "--kind",
        "sparse",
        "--labels",
        "--out",
        "worse",
        "images/mouse_01.tif",
    ];
    let said = told(folder.path(), &arguments);
    assert!(said.starts_with("exit code 0"), "{said}");
    let labels =
        selfadapt_core::io::read_labels(folder.path().join("worse/mouse_01_masks.tif")).unwrap();
    assert_eq!(labels.size(), (768, 768));
    let over = [
        "degrade",
        "--kind",
        "invert",
        "--out",
        "images",
        "images/mouse_01.tif",
    ];
    assert!(told(folder.path(), &over).contains("written over itself"));
}
