//! `selfadapt demo`, in small: the embedded model, adapted without labels, does better on images it never saw.

use serde_json::Value;

use crate::{selfadapt, told};

#[test]
fn the_demonstration_improves_on_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = selfadapt(folder.path())
        .args(["demo", "--out", "demo", "--json", "--images", "6"])
        .args(["--side", "192", "--steps", "20"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| found[name].as_f64().unwrap();
    let (before, after) = (number("ap50_before"), number("ap50_after"));
    assert!((0.3..0.8).contains(&before), "{found}");
    assert!(after > before + 0.05, "{found}");
    assert!(number("seconds") > 0.);
    for file in ["run/report.html", "before-after.png", "after.json"] {
        assert!(folder.path().join("demo").join(file).is_file(), "{file}");
    }
    assert_eq!(found["report"], "demo/run/report.html");

    let again = told(folder.path(), &["demo", "--out", "demo"]);
    assert!(
        again.starts_with("exit code 2") && again.contains("holds something already"),
        "{again}"
    );
}
