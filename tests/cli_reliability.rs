//! Exit codes by kind of fault, damaged run folders, runs side by side, and images gone through in parts.

use std::path::Path;
use std::process::Stdio;

use selfadapt_core::io;

use crate::{assets, selfadapt, told};

/// A folder with the real checkpoint as `model` and an image.
fn folder() -> Option<tempfile::TempDir> {
    let assets = assets::dir()?;
    let folder = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("cellpose/cyto_scellseg.pt", "model"),
        ("data/mouse_00.tif", "mouse_00.tif"),
    ] {
        std::fs::copy(assets.join(from), folder.path().join(to)).unwrap();
    }
    Some(folder)
}

fn code(folder: &Path, arguments: &[&str]) -> i32 {
    let output = selfadapt(folder).args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!told.contains("panicked"), "{told}");
    output.status.code().unwrap()
}

#[test]
fn exit_codes_differ_by_kind_of_fault() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    std::fs::write(here.join("file"), "x").unwrap();
    std::fs::write(here.join("broken.tif"), "II*\0").unwrap();
    let segment = |out: &str, image: &str| {
        code(
            here,
            &[
                "segment",
                "--model",
                "model",
                "--diameter",
                "30",
                "--out",
                out,
                image,
            ],
        )
    };
    assert_eq!(segment("out", "none.tif"), 2);
    assert_eq!(segment("out", "broken.tif"), 1);
    assert_eq!(segment("file/out", "mouse_00.tif"), 3);
}

/// A run folder whose files were damaged is refused in a line, never with a panic.
#[test]
fn damaged_run_folders_are_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    std::fs::create_dir_all(run.join("snapshots")).unwrap();
    for (config, record) in [
        ("", ""),
        ("[adapt]\nsteps = 3", "{"),
        ("weights = 3", "{\"kind\":\"dance\"}\n"),
        ("\u{0}\u{1}", "\u{0}\n"),
        ("a = [[[[[[[[", "[[[[[[[[[[[[[[[[\n"),
    ] {
        std::fs::write(run.join("config.toml"), config).unwrap();
        std::fs::write(run.join("run.jsonl"), record).unwrap();
        for command in [&["report", "run"][..], &["pick", "run", "--step", "3"]] {
            assert_eq!(code(folder.path(), command), 2, "{command:?}: {config:?}");
        }
    }
}

/// Two runs of `segment` into one folder: files appear whole, so that either's are valid and both are the same.
#[test]
fn two_runs_into_one_folder_leave_whole_files() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let start = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_selfadapt"))
            .current_dir(here)
            .args([
                "segment",
                "--model",
                "model",
                "--diameter",
                "30",
                "--out",
                "out",
                "--threads",
                "1",
            ])
            .args(["--save", "masks,seg", "mouse_00.tif"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut runs = [start(), start()];
    let masks = here.join("out/mouse_00_cp_masks.tif");
    // A reader meanwhile finds no file or a whole one.
    let mut reads = 0;
    while runs.iter_mut().any(|run| run.try_wait().unwrap().is_none()) {
        if masks.exists() {
            io::read_labels(&masks).unwrap();
            reads += 1;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    for mut run in runs {
        assert!(run.wait().unwrap().success());
    }
    println!("read {reads} times while two runs wrote");
    let labels = io::read_labels(&masks).unwrap();
    assert_eq!(
        labels,
        io::read_labels(here.join("out/mouse_00_seg.npy")).unwrap()
    );
    let left = std::fs::read_dir(here.join("out")).unwrap();
    assert!(
        left.flatten()
            .all(|entry| !io::atomic::is_unfinished(&entry.file_name()))
    );
}

#[test]
fn in_parts_as_a_whole() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let with = |more: &[&str]| {
        let common = [
            "segment",
            "--model",
            "model",
            "--diameter",
            "30",
            "mouse_00.tif",
        ];
        told(here, &[&common[..], more].concat())
    };
    let whole = with(&["--out", "whole"]);
    let parts = with(&["--out", "parts", "--stream", "always"]);
    assert!(
        parts.contains("in blocks of 1024 pixels that overlap by 128"),
        "{parts}"
    );
    let zarr = with(&["--out", "parts", "--stream", "always", "--format", "zarr"]);
    assert!(zarr.starts_with("exit code 0"), "{zarr}");
    let masks = |name: &str| io::read_labels(here.join(name)).unwrap();
    let (whole, parts, zarr) = (
        (masks("whole/mouse_00_cp_masks.tif"), whole),
        masks("parts/mouse_00_cp_masks.tif"),
        masks("parts/mouse_00_cp_masks.zarr"),
    );
    assert!(whole.0 == parts && whole.0 == zarr, "{}", whole.1);
    let refused = with(&[
        "--out",
        "parts",
        "--stream",
        "always",
        "--save",
        "masks,seg",
    ]);
    assert!(
        refused.starts_with("exit code 2") && refused.contains("only masks as TIFF or OME-Zarr"),
        "{refused}"
    );
}

#[cfg(unix)]
#[test]
fn output_that_nobody_reads_ends_the_command_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    // Closed before the command starts: it could write everything before a reader that goes later has gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_selfadapt"))
        .args(["models", "list"])
        .env("HOME", folder.path())
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), Some(141));
}
