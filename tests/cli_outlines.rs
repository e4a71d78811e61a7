//! `selfadapt adapt` and outlines that are too wide: told by default, fitted when asked for.

use std::path::Path;

use serde_json::Value;

use crate::cli_adapt::{adapt, delivered, folder};
use crate::{assets, told};

/// The lines of one kind of a run's record.
fn lines(run: &Path, kind: &str) -> Vec<Value> {
    let record = std::fs::read_to_string(run.join("run.jsonl")).unwrap();
    let lines = record
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).collect()
}

#[test]
fn outlines_are_fitted_when_asked_for_and_a_run_goes_on_with_them() {
    let Some(folder) = folder() else { return };
    let path = |name: &str| folder.path().join(name);
    let run = |arguments: &[&str]| {
        let said = told(folder.path(), arguments);
        assert!(said.starts_with("exit code 0"), "{said}");
        said
    };
    let fixed = ["--mode", "frozen"];
    let fit = [&fixed[..], &["--fit-outlines"]].concat();
    let said = run(&adapt("plain", &fixed));
    assert!(!said.contains("the run learns from outlines"), "{said}");
    let said = run(&adapt("fitted", &fit));
    assert!(
        said.contains("note: the run learns from outlines"),
        "{said}"
    );

    let seen = |run: &str| lines(&path(run), "outlines").remove(0);
    let (plain, fitted) = (seen("plain"), seen("fitted"));
    assert_eq!(
        (&plain["fitted"], &fitted["fitted"]),
        (&false.into(), &true.into())
    );
    assert_eq!(
        plain["cells"], fitted["cells"],
        "both looked at the untouched model"
    );
    assert!(fitted["wide"].as_u64().unwrap() > 0, "{fitted}");
    assert!(delivered(&path("plain")) != delivered(&path("fitted")));

    // What may stop such a run is another criterion.
    let config = std::fs::read_to_string(path("fitted/config.toml")).unwrap();
    let config: toml::Table = config.parse().unwrap();
    let criteria = config["watch"]["criteria"].as_array().unwrap();
    let threshold = |name: &str| {
        let named = |criterion: &&toml::Value| criterion["criterion"].as_str() == Some(name);
        criteria
            .iter()
            .find(named)
            .unwrap()
            .get("threshold")
            .cloned()
    };
    assert_eq!(threshold("shrinkage"), None);
    assert_eq!(threshold("dullness"), Some(0.0.into()));

    run(&adapt("broken", &[&fit[..], &["--budget", "0s"]].concat()));
    run(&["adapt", "--threads", "2", "--resume", "broken"]);
    assert!(
        delivered(&path("broken")) == delivered(&path("fitted")),
        "the resumed run forgot to fit outlines"
    );
}

#[test]
fn models_without_such_a_map_are_refused_only_when_asked() {
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
    assert!(!folder.path().join("stars").exists(), "a run was begun");
    let odd = "[adapt.outlines]\nbeyond = 2\n";
    std::fs::write(folder.path().join("odd.toml"), odd).unwrap();
    let odd = [
        "adapt", "--model", "cyto.pt", "--out", "odd", "--config", "odd.toml", "images",
    ];
    let said = told(folder.path(), &odd);
    assert!(
        said.contains("adapt.outlines.beyond: expected 0 to 1, found 2"),
        "{said}"
    );
}
