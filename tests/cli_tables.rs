//! `cargo xtask table1`, `table2`, `figure2`, `figure3` from drawn datasets and a small model, and after an interruption.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::dataset_fixtures as fixtures;

/// Runs of seconds on images of 96 pixels.
const SCALE: &str = "\
preset = \"quick\"
mode = \"clean\"
adapted = 2
scored = 2

[adapt]
snapshots = 2

[adapt.adapt]
steps = 4
batch = 1
crop = 64

[adapt.watch]
every = 2
crops = 2

[train.train]
epochs = 2
crops_per_epoch = 1
batch = 1
crop = 64
";

/// Drawn datasets and models; `tissuenet` has no fine-tuned model, so that one is trained.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fixtures::livecell(&at("data/livecell"), &["A172", "BV2"]);
    fixtures::tissuenet(&at("data/tissuenet"), "1.1");
    std::fs::create_dir_all(at("weights")).unwrap();
    let model = root().join("selfadapt-cli/src/demo/model.safetensors");
    for name in ["cyto2", "nuclei", "livecell"] {
        let to = at("weights").join(format!("{name}.safetensors"));
        std::fs::copy(&model, to).unwrap();
    }
    std::fs::write(at("scale.toml"), SCALE).unwrap();
    folder
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A task as it is given in the repository, but in `folder`.
fn task(folder: &Path, name: &str, flags: &str) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(folder).args(["run", "--quiet"]);
    command
        .arg("--manifest-path")
        .arg(root().join("Cargo.toml"));
    command.args(["--package", "xtask", "--", name]);
    command.args(["--data", "data", "--weights", "weights", "--threads", "2"]);
    command.args(["--scale-file", "scale.toml", "--binary"]);
    command.arg(env!("CARGO_BIN_EXE_selfadapt"));
    command.args(flags.split_whitespace());
    command
}

/// Its stdout.
fn done(output: std::io::Result<Output>) -> String {
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).unwrap()
}

fn read(folder: &Path, file: &str) -> String {
    let path = folder.join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|reason| panic!("{}: {reason}", path.display()))
}

/// Compares with a snapshot: scores to one digit and without their spread, as one cell of a drawn set more or less is a
/// matter of the processor; no seconds, which are last in every row.
macro_rules! assert_table {
    ($name:expr, $text:expr) => {
        insta::with_settings!({
            filters => vec![
                (r"(?m)\| \d+ \|$", "| [s] |"),
                (r"(?m),\d+\.\d$", ",[s]"),
                (r"took \d+ s a seed", "took [s] s a seed"),
                (r" ± \.\d+", ""),
                (r"(\.\d)\d{1,3}\b", "$1"),
                (r"-(\.0|0\.0)\b", "+$1"),
            ],
            omit_expression => true,
            prepend_module_to_snapshot => false,
            snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/snapshots"),
        }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

#[test]
fn the_papers_tables_and_figures_come_out_of_drawn_datasets() {
    let folder = folder();
    let here = folder.path();
    let told = done(task(here, "table1", "--out out --seeds 2").output());
    assert!(
        told.contains("run 1 of 16: LIVECell, adaptation from the pretrained model, seed 0"),
        "{told}"
    );
    assert!(
        told.contains("TissueNet, whole cells: ") && told.contains("trained here"),
        "{told}"
    );
    assert_table!("tables_table1", read(here, "out/results/table1.md"));
    assert_table!("tables_table1_csv", read(here, "out/results/table1.csv"));

    // Table 2 and the figures need what is there already, and the ablations.
    let told = done(task(here, "table2", "--out out --seeds 1 --only livecell").output());
    assert!(
        told.starts_with("1 of 5 runs are there already\n"),
        "{told}"
    );
    assert_table!("tables_table2", read(here, "out/results/table2.md"));
    let told = done(task(here, "figure2", "--out out --seeds 2 --only livecell").output());
    assert!(
        told.starts_with("2 of 2 runs are there already\n"),
        "{told}"
    );
    assert_table!("tables_figure2", read(here, "out/results/figure2.md"));
    let svg = read(here, "out/results/figure2-livecell.svg");
    for part in [
        "(c) false negative rate",
        "(d) embedding distance",
        "stops above 0.25",
        "stops above 20",
    ] {
        assert!(svg.contains(part), "{part}");
    }
    // A curve of the score in every panel, for each seed, through the looks at steps 0, 2 and 4.
    let curves = svg
        .lines()
        .filter(|line| line.contains("stroke-dasharray=\"5 3\""));
    assert_eq!(curves.count(), 2 * 12);
    done(task(here, "figure3", "--out out --seeds 1 --only livecell").output());
    let svg = read(here, "out/results/figure3-livecell.svg");
    assert_eq!(
        svg.matches("data:image/png;base64,iVBORw0KGgo").count(),
        2 * 4
    );
    assert_eq!(svg.matches("AP@0.5 ").count(), 2 * 2);

    // Other settings never mix with what is there.
    std::fs::write(
        here.join("scale.toml"),
        SCALE.replace("steps = 4", "steps = 6"),
    )
    .unwrap();
    let output = task(here, "figure2", "--out out --only livecell")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("was made with other settings"),
        "{error}"
    );
    let output = task(here, "figure2", "--out out --only liver")
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("--only liver: expected one of livecell, "),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupted_table_is_the_same_table() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    let folder = folder();
    let here = folder.path();
    std::fs::remove_file(here.join("weights/livecell.safetensors")).unwrap();
    let flags = |out: &str| format!("--out {out} --seeds 2 --only livecell");
    done(task(here, "table1", &flags("whole")).output());

    let mut child = task(here, "table1", &flags("parts"));
    let mut child = child
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("run 3 of 6: ")));
    // The third run has begun to leave something.
    let begun = here.join("parts/runs/livecell-tuned-0/config.toml");
    while !begun.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let group = format!("-{}", child.id());
    assert!(
        Command::new("kill")
            .args(["-KILL", "--", &group])
            .status()
            .unwrap()
            .success()
    );
    child.wait().unwrap();
    assert!(!here.join("parts/results").exists());
    assert!(
        !here
            .join("parts/runs/livecell-tuned-0/manifest.json")
            .exists()
    );

    // Of no seed is everything there yet.
    let output = task(here, "table1", &(flags("parts") + " --ready"))
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("the runs of seed 0 are not all there yet")
    );
    let told = done(task(here, "table1", &flags("parts")).output());
    assert!(told.contains("2 of 6 runs are there already\n"), "{told}");
    let scores = |out: &str| {
        let text = read(here, &format!("{out}/results/table1.csv"));
        let lines = text
            .lines()
            .map(|line| line.rsplit_once(',').unwrap().0.to_owned());
        lines.collect::<Vec<String>>()
    };
    assert_eq!(scores("parts"), scores("whole"));
    assert_eq!(scores("parts").len(), 1 + 2 * 6 * 2);
}
