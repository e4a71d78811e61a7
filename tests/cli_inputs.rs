//! What a run is given: damaged images, OME-Zarr, and when it goes on, weights or images that are no longer those of its
//! beginning.

use std::path::Path;

use crate::cli_torture::{begin, folder, succeeds};
use crate::{assets, folders, selfadapt, told};

/// Begins a run that ends after its first step.
fn began(here: &Path, inputs: &[&str]) {
    let mut arguments = begin("run");
    arguments.pop();
    arguments.extend(inputs.iter().map(|&input| input.to_owned()));
    arguments.extend(["--budget".to_owned(), "0s".to_owned()]);
    succeeds(here, &arguments);
}

/// An OME-Zarr image `z.zarr` of two channels.
fn put_zarr(here: &Path) {
    let fixture = "../tests/fixtures/zarr/v2_plain.zarr";
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture);
    folders::copy(&fixture, &here.join("z.zarr"));
}

fn resumed(here: &Path) -> String {
    told(here, &["adapt", "--threads", "2", "--resume", "run"])
}

#[test]
fn a_run_goes_on_only_with_the_weights_that_it_began_with() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    began(here, &["images"]);
    // The same network with another diameter: every name and shape fits.
    let convert = |from: &str, to: &str| {
        let said = told(here, &["models", "convert", "--force", from, to]);
        assert!(said.starts_with("exit code 0"), "{said}");
    };
    convert("run/adapted", "cyto");
    let said = resumed(here);
    assert!(
        said.starts_with("exit code 2") && said.contains("this run began with weights of SHA-256"),
        "{said}"
    );
}

/// Positions of crops are drawn over the list of images: with another list the same seed would mean something else.
#[test]
fn a_run_goes_on_only_with_the_images_that_it_began_with() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let data = assets::dir().unwrap().join("data");
    let put = |name: &str, at: &str| std::fs::copy(data.join(name), here.join(at)).unwrap();
    put("mouse_02.tif", "images/b.tif");
    began(here, &["images"]);

    std::fs::remove_file(here.join("images/b.tif")).unwrap();
    let said = resumed(here);
    assert!(
        said.starts_with("exit code 2") && said.contains("images/b.tif is gone"),
        "{said}"
    );
    put("mouse_04.tif", "images/b.tif");
    let said = resumed(here);
    assert!(
        said.starts_with("exit code 2") && said.contains("images/b.tif had "),
        "{said}"
    );
    // What a microscope has added since does not matter.
    put("mouse_02.tif", "images/b.tif");
    put("mouse_04.tif", "images/a0.tif");
    let said = resumed(here);
    assert!(said.starts_with("exit code 0"), "{said}");
    let manifest = std::fs::read_to_string(here.join("run/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let inputs = manifest["inputs"].as_array().unwrap();
    let names: Vec<_> = inputs
        .iter()
        .map(|input| input["path"].as_str().unwrap().rsplit('/').next().unwrap())
        .collect();
    assert_eq!(names, ["a.tif", "b.tif"]);
}

/// The same seed and threads: the same weights, masks, page and record, but for the times that they state.
#[test]
fn the_same_run_again_is_the_same() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let run = || {
        succeeds(here, &begin("run"));
        let segment = "segment --model run --out masks images".split(' ');
        succeeds(here, &segment.map(str::to_owned).collect::<Vec<_>>());
        let whole = |file: &str| std::fs::read(here.join(file)).unwrap();
        let untimed = |file: &str| -> Vec<String> {
            let text = std::fs::read_to_string(here.join(file)).unwrap();
            let lines = text.lines().filter(|line| !line.contains(" s in all, "));
            // The last entry of a line of run.jsonl.
            let lines = lines.map(|line| line.split(",\"seconds\":").next().unwrap().to_owned());
            lines.collect()
        };
        let made = (
            ["run/adapted", "run/curves.svg", "masks/a_cp_masks.tif"].map(whole),
            ["run/report.html", "run/run.jsonl"].map(untimed),
        );
        for folder in ["run", "masks"] {
            std::fs::remove_dir_all(here.join(folder)).unwrap();
        }
        made
    };
    let (first, second) = (run(), run());
    assert!(first.0 == second.0, "weights, curves or masks differ");
    assert_eq!(first.1, second.1);
}

/// One bad file among many ends no run, and is not passed over in silence.
#[test]
fn damaged_images_are_left_out_and_told() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    let whole = std::fs::read(here.join("images/a.tif")).unwrap();
    std::fs::write(here.join("images/b.tif"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(here.join("images/c.png"), "").unwrap();
    let said = told(here, &begin("run"));
    assert!(said.starts_with("exit code 1"), "{said}");
    for damaged in ["images/b.tif: strip 0", "images/c.png: "] {
        // As it is found, and at the end.
        let (end, found) = said.split_once("--- stderr").unwrap();
        assert!(found.contains(damaged) && end.contains(damaged), "{said}");
    }
    let report = std::fs::read_to_string(here.join("run/report.html")).unwrap();
    assert!(report.contains("images/b.tif: strip 0"));

    std::fs::remove_file(here.join("images/a.tif")).unwrap();
    let mut nothing = begin("nothing");
    nothing.extend(["--seed", "3"].map(str::to_owned));
    let said = told(here, &nothing);
    assert!(said.starts_with("exit code 2"), "{said}");
    assert!(!here.join("nothing/config.toml").exists());
}

/// What `segment` can be told of a file with several planes, `adapt` can be told too, and remembers.
#[test]
fn one_plane_of_a_stack_is_adapted_to() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    put_zarr(here);
    // Its two channels, told as planes.
    let metadata = here.join("z.zarr/.zattrs");
    let text = std::fs::read_to_string(&metadata).unwrap();
    let text = text
        .replace("\"c\"", "\"z\"")
        .replace("\"channel\"", "\"space\"");
    std::fs::write(&metadata, text).unwrap();
    let mut arguments = begin("run");
    *arguments.last_mut().unwrap() = "z.zarr".to_owned();
    let said = told(here, &arguments);
    assert!(
        said.starts_with("exit code 2") && said.contains("choose a plane from 0 to 1"),
        "{said}"
    );
    // By Cellpose's name for the other flag, too.
    for flag in [["--plane", "1"], ["--channel_axis", "0"]] {
        let flag = flag.map(str::to_owned);
        let said = told(here, &[arguments.as_slice(), &flag].concat());
        assert!(said.starts_with("exit code 0"), "{said}");
        let said = resumed(here);
        assert!(said.starts_with("exit code 0"), "{said}");
        std::fs::remove_dir_all(here.join("run")).unwrap();
    }
}

/// An image that is a folder is an image: to the run, to its manifest, to its report, and when it goes on.
#[test]
fn an_ome_zarr_image_is_adapted_to() {
    let Some(folder) = folder() else { return };
    let here = folder.path();
    put_zarr(here);
    began(here, &["z.zarr"]);
    let said = resumed(here);
    assert!(
        said.starts_with("exit code 0") && said.contains("report: run/report.html"),
        "{said}"
    );
    std::fs::remove_file(here.join("z.zarr/0/1/1/1")).unwrap();
    let said = resumed(here);
    assert!(said.contains("z.zarr had "), "{said}");
    let report = selfadapt(here).args(["report", "run"]).output().unwrap();
    assert!(report.status.success());
}
