//! `selfadapt adapt` under kill -9, on a full disk and in a folder that cannot be written: nothing is lost.
//!
//! `cargo xtask torture` runs this with more kills; `SELFADAPT_TORTURE_KILLS` and `SELFADAPT_TORTURE_SEED` say how
//! many, and which moments.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use selfadapt_models::{format, weights};
use serde_json::Value;

use crate::folders::files;
use crate::{assets, selfadapt, told};

/// As small as a run with readings, snapshots and a delivery can be.
const TINY: &str = "\
snapshots = 3

[adapt]
crop = 64
batch = 1
views = 1

[watch]
every = 1
crops = 1
stop = false

[choice]
modes = []
";

/// The same with two trials first. No distance is below zero, so they always end in keeping the model.
const TRIED: &str = "\
snapshots = 3

[adapt]
crop = 64
batch = 1
views = 1

[watch]
every = 1
crops = 1

[choice]
steps = 2
by = [\"embedding-distance\"]
";

/// The real checkpoint, one image, and the settings.
pub fn folder() -> Option<tempfile::TempDir> {
    let assets = assets::dir()?;
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    std::fs::create_dir(here.join("images")).unwrap();
    std::fs::copy(assets.join("cellpose/cyto_scellseg.pt"), here.join("cyto")).unwrap();
    std::fs::copy(assets.join("data/mouse_00.tif"), here.join("images/a.tif")).unwrap();
    std::fs::write(here.join("tiny.toml"), TINY).unwrap();
    Some(folder)
}

pub fn begin(out: &str) -> Vec<String> {
    let words = format!(
        "adapt --model cyto --out {out} --config tiny.toml --diameter 26 --steps 6 --threads 2 images"
    );
    words.split(' ').map(str::to_owned).collect()
}

fn resume(out: &str) -> Vec<String> {
    let words = format!("adapt --threads 2 --resume {out}");
    words.split(' ').map(str::to_owned).collect()
}

/// Begins a run, or goes on with one that got as far as being one.
fn next(here: &Path, out: &str) -> Vec<String> {
    if here.join(out).join("config.toml").exists() {
        resume(out)
    } else {
        begin(out)
    }
}

pub fn succeeds(here: &Path, arguments: &[String]) {
    let output = selfadapt(here).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// Runs until `patience` is over and kills with SIGKILL; whether the process was still there.
fn killed(here: &Path, arguments: &[String], patience: Duration) -> bool {
    let mut child = Command::new(env!("CARGO_BIN_EXE_selfadapt"))
        .args(arguments)
        .current_dir(here)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while start.elapsed() < patience {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{arguments:?}: {status}");
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    !child.wait().unwrap().success()
}

/// Reads every file that stands under its final name: none may be half written.
fn assert_whole(run: &Path) -> usize {
    let mut seen = 0;
    for path in files(run) {
        let name = path.file_name().unwrap();
        if selfadapt_core::io::atomic::is_unfinished(name) || name == "lock" {
            continue;
        }
        seen += 1;
        let text = || std::fs::read_to_string(&path).unwrap();
        let ends = |tail: &str| {
            let text = text();
            assert!(text.trim_end().ends_with(tail), "{} is cut", path.display());
        };
        match name.to_str().unwrap() {
            "run.jsonl" => {
                // The one file that grows: only its last line may be cut.
                let text = text();
                let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
                whole.lines().for_each(|line| drop(json(line)));
            }
            "adapted" => drop(format::open(&path).unwrap()),
            other => match other.rsplit('.').next().unwrap() {
                "safetensors" => drop(weights::safetensors::read(&path).unwrap()),
                "json" => drop(json(&text())),
                "toml" => drop(toml_table(&text())),
                "svg" => ends("</svg>"),
                "html" => ends("</html>"),
                _ => panic!("{} is not known here", path.display()),
            },
        }
    }
    seen
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn toml_table(text: &str) -> toml::Table {
    text.parse().unwrap()
}

/// What must not depend on interruptions: the weights, and which steps and readings were recorded.
fn assert_same(expected: &Path, found: &Path) {
    for file in ["delivered.safetensors", "adapted", "model.json"] {
        let same =
            std::fs::read(expected.join(file)).unwrap() == std::fs::read(found.join(file)).unwrap();
        assert!(same, "{file} differs in {}", found.display());
    }
    let record = |run: &Path| -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(run.join("run.jsonl")).unwrap();
        let lines = text.lines().map(json);
        lines
            .map(|line| {
                let kind = line["kind"].as_str().unwrap().to_owned();
                // Trials and their outcome belong to no step.
                (kind, line["step"].as_u64().unwrap_or(0))
            })
            .collect()
    };
    assert_eq!(record(expected), record(found), "{}", found.display());
    let unfinished = files(found)
        .into_iter()
        .find(|path| selfadapt_core::io::atomic::is_unfinished(path.file_name().unwrap()));
    assert_eq!(unfinished, None, "a half written file was left");
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn killed_runs_end_with_the_same_weights() {
    let Some(folder) = folder() else { return };
    kill_again_and_again(folder.path(), number("SELFADAPT_TORTURE_KILLS", 3));
}

#[test]
fn killed_trials_are_tried_again_and_decide_the_same() {
    let Some(folder) = folder() else { return };
    std::fs::write(folder.path().join("tiny.toml"), TRIED).unwrap();
    kill_again_and_again(
        folder.path(),
        number("SELFADAPT_TORTURE_KILLS", 3).div_ceil(3),
    );
}

/// Kills runs at random moments, goes on with them, and compares with one that was left alone.
fn kill_again_and_again(here: &Path, kills: u64) {
    let start = Instant::now();
    succeeds(here, &begin("whole"));
    let whole = start.elapsed();
    assert!(assert_whole(&here.join("whole")) > 8);

    let mut state = number("SELFADAPT_TORTURE_SEED", 1);
    let (mut done, mut runs, mut resumed) = (0, 0, 0);
    while done < kills {
        let out = format!("run{runs}");
        runs += 1;
        // At most three kills a run, then it is left in peace.
        for _ in 0..3.min(kills - done) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let share = (state >> 40) as f64 / f64::from(1 << 24);
            let arguments = next(here, &out);
            resumed += u64::from(arguments.contains(&"--resume".to_owned()));
            if !killed(here, &arguments, whole.mul_f64(share)) {
                break;
            }
            done += 1;
            assert_whole(&here.join(&out));
        }
        succeeds(here, &next(here, &out));
        assert_whole(&here.join(&out));
        assert_same(&here.join("whole"), &here.join(&out));
        std::fs::remove_dir_all(here.join(&out)).unwrap();
    }
    println!(
        "{done} kills in {runs} runs, {resumed} of them of a resumed one; all weights are the same bits"
    );
}

/// A small disk of its own; none where the user may not mount one.
struct Disk(PathBuf);

impl Disk {
    fn new(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let disk = Self(at);
        let options = format!("size={size}");
        let made = disk.mount(&["-t", "tmpfs", "-o", &options, "tmpfs"]);
        if !made {
            println!("skipped: a disk to fill cannot be mounted here (that takes root's rights)");
            std::mem::forget(disk);
            return None;
        }
        Some(disk)
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let output = Command::new("mount").args(arguments).arg(&self.0).output();
        output.is_ok_and(|output| output.status.success())
    }

    fn remount(&self, options: &str) {
        assert!(
            self.mount(&["-o", &format!("remount,{options}")]),
            "{options}"
        );
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_or_locked_disk_is_said_and_loses_nothing() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    // Enough for the first snapshots, too little for the state of a run.
    let Some(disk) = Disk::new(here.join("disk"), "90m") else {
        return;
    };
    succeeds(here, &begin("whole"));
    let fails = |arguments: &[String], expected: &str| {
        let said = told(here, arguments);
        assert!(
            said.starts_with("exit code 3")
                && said.contains(expected)
                && !said.contains("panicked"),
            "{said}"
        );
        assert!(said.contains("disk/run"), "{said}");
    };
    let run = here.join("disk/run");
    fails(&begin("disk/run"), "No space left on device");
    assert!(assert_whole(&run) >= 3, "nothing was kept");
    fails(&next(here, "disk/run"), "No space left on device");
    disk.remount("size=600m");
    // A disk that may be read only: a run that cannot go on, a model that can be used.
    disk.remount("ro");
    fails(&next(here, "disk/run"), "Read-only file system");
    fails(&begin("disk/run2"), "Read-only file system");
    disk.remount("rw");
    succeeds(here, &next(here, "disk/run"));
    assert_same(&here.join("whole"), &run);
    disk.remount("ro");
    let segment = "segment --model disk/run --out masks images";
    let said = told(here, &segment.split(' ').collect::<Vec<_>>());
    assert!(said.starts_with("exit code 0"), "{said}");
    disk.remount("rw");
}

#[test]
fn models_are_found_by_the_names_that_segment_takes() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    std::fs::create_dir(here.join("models")).unwrap();
    std::fs::rename(here.join("cyto"), here.join("models/cytotorch_0")).unwrap();
    let adapt = |model: &str| {
        let mut arguments = begin("run");
        arguments[2] = model.to_owned();
        let mut command = selfadapt(here);
        command
            .args(arguments)
            .env("CELLPOSE_LOCAL_MODELS_PATH", "models");
        let output = command.args(["--budget", "0s"]).output().unwrap();
        (
            output.status.success(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (fine, said) = adapt("cyto2");
    let searched = "cyto2: a Cellpose model that is not on this machine; looked in home/.selfadapt/models and models";
    assert!(!fine && said.contains(searched), "{said}");
    let (fine, said) = adapt("cyto");
    assert!(fine, "{said}");
}
