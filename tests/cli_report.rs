//! `selfadapt report` and `selfadapt pick` on a real run in small, and the page in a real browser.

use std::path::Path;

use serde_json::Value;

use crate::browser::Browser;
use crate::{assert_told, assets, selfadapt, told};

/// Small enough for a test; the rate makes the snapshots differ.
const SMALL: &str = "\
[adapt]
crop = 96
batch = 2
views = 1
learning_rate = 0.003

[watch]
every = 2
crops = 3
stop = false

[choice]
modes = []
";

/// A folder with a finished run of five steps in `run`.
fn finished() -> Option<tempfile::TempDir> {
    let assets = assets::dir()?;
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("images")).unwrap();
    for name in ["mouse_00.tif", "mouse_01.tif", "mouse_02.tif"] {
        let to = folder.path().join("images").join(name);
        std::fs::copy(assets.join("data").join(name), to).unwrap();
    }
    std::fs::write(folder.path().join("small.toml"), SMALL).unwrap();
    let model = assets.join("cellpose/cyto_scellseg.pt");
    let output = selfadapt(folder.path())
        .args(["adapt", "--threads", "2", "--out", "run", "--config"])
        .args(["small.toml", "--diameter", "26", "--steps", "5", "--model"])
        .arg(model)
        .arg("images")
        .output()
        .unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|t| String::from_utf8(t).unwrap());
    assert!(output.status.success(), "{err}");
    assert!(out.ends_with("report: run/report.html\n"), "{out}");
    Some(folder)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What the page's script draws from.
fn data(page: &str) -> Value {
    let (_, rest) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn a_run_is_a_page_and_another_snapshot_can_be_picked() {
    let Some(folder) = finished() else { return };
    let run = folder.path().join("run");
    let read = |name: &str| std::fs::read(run.join(name)).unwrap();
    let page = String::from_utf8(read("report.html")).unwrap();

    // What it shows is what the run itself saw at its readings, on the same crops.
    let shown = data(&page);
    let record = String::from_utf8(read("run.jsonl")).unwrap();
    let readings: Vec<Value> = record
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["kind"] == "reading")
        .collect();
    let snapshots = shown["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 4);
    for (snapshot, reading) in snapshots.iter().zip(&readings) {
        assert_eq!(snapshot["step"], reading["step"]);
        assert_eq!(snapshot["total"]["after"], reading["instances"]);
    }
    let verdict = json(&run.join("manifest.json"))["verdict"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(page.contains(&verdict[1..]), "{verdict}");

    // The same files give the same page.
    std::fs::remove_file(run.join("report.html")).unwrap();
    let said = told(folder.path(), &["report", "run", "--threads", "2"]);
    assert_eq!(
        said,
        "exit code 0\n--- stdout\nrun/report.html\n--- stderr\n"
    );
    assert!(
        read("report.html") == page.as_bytes(),
        "the page is another"
    );

    let before = read("delivered.safetensors");
    let said = told(folder.path(), &["pick", "run", "--step", "2"]);
    assert_told!("pick", said);
    let manifest = json(&run.join("manifest.json"));
    assert_eq!(manifest["delivered_step"], 2);
    assert_eq!(manifest["picked_over"]["step"], 5);
    assert!(read("delivered.safetensors") != before);
    let page = String::from_utf8(read("report.html")).unwrap();
    assert!(page.contains("<h1>Step 2, picked by hand</h1>"));
    assert_eq!(data(&page)["delivered"], 2);
    assert_told!("pick_list", told(folder.path(), &["pick", "run"]));
    assert_told!(
        "pick_unknown_step",
        told(folder.path(), &["pick", "run", "--step", "3"])
    );
    // And back: the run's own choice is as it was.
    told(folder.path(), &["pick", "run", "--step", "5"]);
    assert!(read("delivered.safetensors") == before);
    let manifest = json(&run.join("manifest.json"));
    assert!(manifest["picked_over"].is_null(), "{manifest}");

    assert_told!("report_no_run", told(folder.path(), &["report", "images"]));
    assert!(!folder.path().join("images/state").exists());
    std::fs::remove_file(folder.path().join("images/mouse_01.tif")).unwrap();
    let said = told(folder.path(), &["report", "run"]);
    assert!(
        said.starts_with("exit code 2") && said.contains("mouse_01.tif: the run adapted to this"),
        "{said}"
    );
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let Some(folder) = finished() else { return };
    browser.resize(1280, 900);
    browser.open(&folder.path().join("run/report.html"));
    let text = |browser: &mut Browser, id: &str| {
        let text = browser.evaluate(&format!("document.getElementById('{id}').textContent"));
        text.as_str().unwrap().to_owned()
    };

    // It opens at the delivered snapshot; the arrow keys move to others.
    assert_eq!(text(&mut browser, "step"), "step 5 (delivered)");
    assert_eq!(text(&mut browser, "command"), "selfadapt pick run --step 5");
    let drawn = "document.querySelector('.after svg').innerHTML";
    let marked = "document.querySelector('.chart .here').getAttribute('x1')";
    let (last, mark) = (browser.evaluate(drawn), browser.evaluate(marked));
    browser.evaluate("document.getElementById('snapshot').focus()");
    for _ in 0..3 {
        browser.press("ArrowLeft", 37);
    }
    assert_eq!(text(&mut browser, "step"), "step 0 (your model)");
    assert_eq!(text(&mut browser, "command"), "selfadapt pick run --step 0");
    assert!(text(&mut browser, "told").ends_with("nothing changed"));
    assert_ne!(browser.evaluate(drawn), last, "other outlines");
    assert_ne!(
        browser.evaluate(marked),
        mark,
        "the mark in the charts moves"
    );
    let same = "document.querySelector('.before svg').innerHTML \
                === document.querySelector('.after svg').innerHTML";
    assert_eq!(browser.evaluate(same), true, "step 0 is the model itself");
    browser.evaluate("document.getElementById('later').click()");
    assert_eq!(text(&mut browser, "step"), "step 2");

    // The slider follows the mouse and the keys.
    let place = browser.evaluate(
        "(() => { const c = document.querySelector('.compare'); c.scrollIntoView({block: 'center'}); \
         const b = c.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })()",
    );
    let place: Vec<f64> = serde_json::from_value(place).unwrap();
    let at = |share: f64| (place[0] + share * place[2], place[1] + place[3] / 2.);
    let cut = "getComputedStyle(document.querySelector('.side.after')).clipPath";
    assert_eq!(browser.evaluate(cut), "inset(0px 0px 0px 50%)");
    browser.drag(at(0.5), at(0.2));
    let value = "Number(document.querySelector('.compare input').value)";
    let dragged = browser.evaluate(value).as_f64().unwrap();
    assert!((15. ..25.).contains(&dragged), "{dragged}");
    browser.press("ArrowRight", 39);
    assert_eq!(browser.evaluate(value), dragged + 1.);
    assert_eq!(
        browser.evaluate(cut),
        format!("inset(0px 0px 0px {}%)", dragged + 1.)
    );

    // Every image is there, and nothing is wider than a phone.
    let whole = "[...document.images].every(i => i.complete && i.naturalWidth === 96)";
    assert_eq!(browser.evaluate(whole), true);
    browser.resize(360, 740);
    let wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.evaluate(wide), 0);

    // Dark is dark, and paper shows both sides whole.
    let paper = "getComputedStyle(document.body).backgroundColor";
    browser.medium("screen", "light");
    assert_eq!(browser.evaluate(paper), "rgb(255, 255, 255)");
    browser.medium("screen", "dark");
    assert_eq!(browser.evaluate(paper), "rgb(18, 23, 28)");
    browser.medium("print", "dark");
    assert_eq!(browser.evaluate(paper), "rgb(255, 255, 255)");
    assert_eq!(browser.evaluate(cut), "none");

    assert_eq!(browser.complaints(), Vec::<&Value>::new());
    let asked = browser.requests();
    assert!(
        asked
            .iter()
            .all(|a| a.starts_with("file://") || a.starts_with("data:")),
        "{asked:?}"
    );
    assert_eq!(asked.iter().filter(|a| a.starts_with("file://")).count(), 1);
}
