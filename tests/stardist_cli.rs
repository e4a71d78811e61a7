//! The command line with a StarDist folder: adapt, segment, info, convert.

use std::path::Path;

use serde_json::Value;

use crate::selfadapt;

/// Small enough for a test.
const SMALL: &str = "\
[adapt]
crop = 64
batch = 2
views = 4

[watch]
every = 2
crops = 2
stop = false
";

/// A folder with the model `plain` of `golden/stardist`, two images of discs, and the small settings.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/stardist/plain");
    std::fs::create_dir(folder.path().join("plain")).unwrap();
    for name in ["config.json", "thresholds.json", "weights_best.h5"] {
        std::fs::copy(golden.join(name), folder.path().join("plain").join(name)).unwrap();
    }
    std::fs::create_dir(folder.path().join("images")).unwrap();
    for seed in 1..3u32 {
        let discs = image::GrayImage::from_fn(96, 80, |x, y| {
            let (dx, dy) = (x % 32, (y + 5 * seed) % 32);
            let inside = dx.abs_diff(16).pow(2) + dy.abs_diff(16).pow(2) < 100;
            image::Luma([if inside { 200 } else { 40 } + (x * seed + y * 7) as u8 % 13])
        });
        let path = folder.path().join(format!("images/discs_{seed}.png"));
        discs.save(path).unwrap();
    }
    std::fs::write(folder.path().join("small.toml"), SMALL).unwrap();
    folder
}

fn run(folder: &Path, arguments: &str) -> String {
    let output = selfadapt(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn an_adapted_folder_is_segmented_with_as_the_run_is() {
    let folder = folder();
    let here = folder.path();
    let adapt = "adapt --model plain --config small.toml --steps 3 --mode frozen --diameter 40 --json images";
    let told = json(&run(here, &format!("{adapt} --out run")));
    assert_eq!(told["delivered_step"], 3);
    let adapted = here.join("run/adapted");
    for name in [
        "config.json",
        "thresholds.json",
        "weights_best.h5",
        "selfadapt.json",
    ] {
        assert!(adapted.join(name).is_file(), "{name}");
    }
    // The same weights, scale and masks from the run, from its folder, and by way of both kinds of file.
    run(here, "models convert run/adapted there.safetensors");
    run(here, "models convert there.safetensors back");
    let masks = |model: &str| {
        let told = run(
            here,
            &format!("segment --model {model} --out masks --json images"),
        );
        let told = json(&told);
        let (scale, cells) = (&told["scale"], &told["counts"]["cells"]);
        assert_eq!(scale.as_f64(), Some(22. / 40.), "{model}");
        let image = std::fs::read(here.join("masks/discs_1_cp_masks.tif")).unwrap();
        (cells.as_u64().unwrap(), image)
    };
    let of_run = masks("run");
    for model in ["run/adapted", "there.safetensors", "back"] {
        assert!(masks(model) == of_run, "{model}");
    }
    // A size that is given works as one that the model has by itself.
    let same = masks("back --diameter 40");
    assert!(same == of_run);
    // Something was learned.
    run(here, "models convert plain before.safetensors");
    let bytes = |name: &str| std::fs::read(here.join(name)).unwrap();
    assert!(bytes("before.safetensors") != bytes("there.safetensors"));
}

#[test]
fn modes_that_are_one_without_batch_norm_are_tried_once() {
    let folder = folder();
    let here = folder.path();
    let auto =
        "adapt --model plain --config small.toml --steps 3 --mode auto --diameter 40 --json images";
    run(here, &format!("{auto} --out run"));
    let text = |name: &str| std::fs::read_to_string(here.join("run").join(name)).unwrap();
    assert_eq!(text("run.jsonl").matches(r#""kind":"trial""#).count(), 1);
    assert_eq!(text("config.toml").matches("[[choice.modes]]").count(), 1);
    assert!(
        text("manifest.json").contains("one mode is tried: the model has no running statistics")
    );
}

#[test]
fn a_run_does_not_go_on_with_another_model_in_the_same_folder() {
    let folder = folder();
    let here = folder.path();
    let adapt = "adapt --model plain --config small.toml --steps 2 --mode frozen --diameter 40 --json images";
    run(here, &format!("{adapt} --out run"));
    let resume = |steps: &str| {
        let mut command = selfadapt(here);
        command.args(["adapt", "--resume", "run", "--steps", steps]);
        command.output().unwrap()
    };
    assert!(resume("3").status.success());
    let manifest = std::fs::read_to_string(here.join("run/manifest.json")).unwrap();
    let digest = json(&manifest)["weights"]["sha256"].clone();
    assert_eq!(digest.as_str().map(str::len), Some(64));
    let thresholds = here.join("plain/thresholds.json");
    std::fs::write(thresholds, r#"{"prob": 0.7, "nms": 0.3}"#).unwrap();
    let refused = resume("4");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("put the old file back"),
        "{said}"
    );
}

#[test]
fn info_tells_what_a_folder_holds() {
    let folder = folder();
    let told = json(&run(folder.path(), "models info plain --json"));
    assert_eq!(told["format"], "stardist");
    assert_eq!(told["settings"]["n_rays"], 32);
    assert_eq!(
        told["settings"]["percentiles"],
        serde_json::json!([1., 99.8])
    );
    assert_eq!(told["heads"][1]["channels"], 32);
    // Settings are changed by their names, and refused by them.
    let masks =
        "segment --model plain --out masks --set percentiles=[3,99] --set prob_thresh=0.7 images";
    run(folder.path(), masks);
    let wrong = selfadapt(folder.path())
        .args("segment --model plain --out masks --set flow_threshold=1 images".split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(
        said.contains("a stardist model has no such setting"),
        "{said}"
    );
}
