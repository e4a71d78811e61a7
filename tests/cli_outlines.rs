//! `selfadapt adapt` and outlines that are too wide: told by default, fitted when asked for, and never part of a model that is kept.

use std::path::Path;

use serde_json::Value;

use crate::cli_adapt::{adapt, delivered, folder};
use crate::{assets, told};

/// The line of a run's record that says how outlines lie.
fn outlines(run: &Path) -> Value {
    let record = std::fs::read_to_string(run.join("run.jsonl")).unwrap();
    let mut lines = record
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.find(|line| line["kind"] == "outlines").unwrap()
}

#[test]
fn outlines_are_fitted_when_asked_for_and_a_run_goes_on_with_them() {
    let Some(folder) = folder() else { return };
    let path = |name: &str| folder.path().join(name);
    let small = std::fs::read_to_string(path("small.toml")).unwrap();
    // So few cells are seen here that one may be lost.
    let with = |apply: bool| format!("{small}\n[outlines]\napply = {apply}\nlost = 0.5\n");
    let run = |arguments: &[&str]| {
        let said = told(folder.path(), arguments);
        assert!(said.starts_with("exit code 0"), "{said}");
        said
    };
    let fixed = ["--mode", "frozen"];
    std::fs::write(path("small.toml"), with(false)).unwrap();
    run(&adapt("plain", &fixed));
    std::fs::write(path("small.toml"), with(true)).unwrap();
    let said = run(&adapt("fitted", &fixed));
    assert!(
        said.contains("note: the run began with outlines drawn tighter"),
        "{said}"
    );

    let (plain, fitted) = (outlines(&path("plain")), outlines(&path("fitted")));
    assert_eq!(plain["applied"], false);
    assert_eq!(fitted["applied"], true);
    assert_eq!(
        plain["levels"], fitted["levels"],
        "both looked at the untouched model"
    );
    let fall = fitted["fall"].as_f64().unwrap();
    assert!(fall > 0. && plain["fall"] == fitted["fall"], "{fitted}");

    // Step 0 is the pretrained model, whatever the run began with; the delivered one has the lower bias.
    let snapshot = |run: &str| std::fs::read(path(run).join("snapshots/step-000000.safetensors"));
    assert!(snapshot("plain").unwrap() == snapshot("fitted").unwrap());
    let bias = |run: &str| {
        let file = path(run).join("delivered.safetensors");
        let weights = candle_core::safetensors::load(file, &candle_core::Device::Cpu).unwrap();
        f64::from(weights["output.2.bias"].to_vec1::<f32>().unwrap()[2])
    };
    let lower = bias("plain") - bias("fitted");
    assert!((lower - fall).abs() < 0.05, "{lower} in place of {fall}");

    run(&adapt(
        "broken",
        &[&fixed[..], &["--budget", "0s"]].concat(),
    ));
    run(&["adapt", "--threads", "2", "--resume", "broken"]);
    assert!(
        delivered(&path("broken")) == delivered(&path("fitted")),
        "the resumed run forgot its outlines"
    );
}

#[test]
fn models_without_such_a_number_are_refused_only_when_asked() {
    let (Some(folder), Some(assets)) = (folder(), assets::dir()) else {
        return;
    };
    let stardist = assets.join("stardist");
    let run = [
        "adapt",
        "--model",
        stardist.to_str().unwrap(),
        "--out",
        "stars",
        "--fit-outlines",
        "images",
    ];
    let said = told(folder.path(), &run);
    assert!(
        said.starts_with("exit code 2") && said.contains("leave --fit-outlines away"),
        "{said}"
    );
    std::fs::write(folder.path().join("odd.toml"), "[outlines]\nlost = 2\n").unwrap();
    let odd = [
        "adapt", "--model", "cyto.pt", "--out", "odd", "--config", "odd.toml", "images",
    ];
    let said = told(folder.path(), &odd);
    assert!(
        said.contains("outlines.lost: expected 0 to 1, found 2"),
        "{said}"
    );
}
