//! The configuration reference of the book, made from the presets' values and the fields' own documentation.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use selfadapt_core::io::Axes;
use selfadapt_core::model::Sizing;
use selfadapt_models::cellpose::CellposeConfig;

use super::settings::{Preset, RunConfig};
use crate::book::assert_generated;
use crate::device::DeviceChoice;

/// Tables of config.toml, and the structs whose fields they hold.
const TABLES: [(&str, &str, &str); 12] = [
    ("", "selfadapt-cli/src/adapt/settings.rs", "RunConfig"),
    ("axes", "selfadapt-core/src/io/axes.rs", "Axes"),
    ("adapt", "selfadapt-core/src/adapt/config.rs", "AdaptConfig"),
    (
        "adapt.objective",
        "selfadapt-core/src/objective.rs",
        "Objective",
    ),
    ("adapt.gate", "selfadapt-core/src/gate.rs", "GateConfig"),
    (
        "adapt.selection",
        "selfadapt-core/src/selection.rs",
        "Selection",
    ),
    ("adapt.perturb", "selfadapt-core/src/perturb.rs", "Perturb"),
    (
        "adapt.outlines",
        "selfadapt-core/src/outlines/mod.rs",
        "Outlines",
    ),
    ("choice", "selfadapt-core/src/choice.rs", "Choice"),
    ("choice.modes", "selfadapt-core/src/choice.rs", "Mode"),
    ("watch", "selfadapt-core/src/run.rs", "Watch"),
    (
        "model",
        "selfadapt-models/src/cellpose/mod.rs",
        "CellposeConfig",
    ),
];

/// Keys that take one of several words, and the enums that are these words.
const WORDS: [(&str, &str, &str); 4] = [
    (
        "batch_norm",
        "selfadapt-core/src/adapt/config.rs",
        "BatchNorm",
    ),
    ("moving", "selfadapt-core/src/adapt/config.rs", "Moving"),
    ("l2sp", "selfadapt-core/src/objective.rs", "L2sp"),
    ("deliver", "selfadapt-core/src/run.rs", "Deliver"),
];

#[test]
fn the_reference_is_that_of_the_code() {
    assert_generated("configuration.md", "reference", &reference());
}

fn preset(preset: Preset) -> toml::Table {
    let config = RunConfig {
        weights: "cyto3".into(),
        inputs: vec!["images".into()],
        sizing: Sizing::Diameter(26.),
        snapshots: 24,
        cache_mib: 512,
        device: DeviceChoice::Auto,
        axes: Axes::default(),
        adapt: preset.adapt(),
        choice: preset.choice(),
        watch: preset.watch(false),
        model: Box::new(CellposeConfig::default()),
    };
    toml::Table::try_from(config).unwrap()
}

fn reference() -> String {
    let (quick, paper) = (preset(Preset::Quick), preset(Preset::Paper));
    let mut page = String::new();
    for (path, file, name) in TABLES {
        let docs = fields(file, name);
        match path {
            "" => writeln!(page, "\n### At the top\n"),
            "model" => writeln!(page, "\n### `[model]`, of a Cellpose model\n"),
            "choice.modes" => writeln!(page, "\n### `[[choice.modes]]`\n"),
            path => writeln!(page, "\n### `[{path}]`\n"),
        }
        .unwrap();
        writeln!(
            page,
            "| key | quick | paper | meaning |\n| --- | --- | --- | --- |"
        )
        .unwrap();
        let (quick, paper) = (table(&quick, path), table(&paper, path));
        for (key, doc) in &docs {
            let found = WORDS.iter().find(|(known, _, _)| known == key);
            let words = found.map_or_else(String::new, |(_, file, name)| words(file, name));
            let shown = |table: &toml::Table| match table.get(key) {
                None => "-".to_owned(),
                Some(value) if nested(value, &child(path, key)) => "below".to_owned(),
                Some(value) => format!("`{value}`"),
            };
            writeln!(
                page,
                "| `{key}` | {} | {} | {doc}{words} |",
                shown(&quick),
                shown(&paper)
            )
            .unwrap();
        }
        for key in quick.keys() {
            let documented = docs.iter().any(|(known, _)| known == key) || key == "model";
            assert!(documented, "{name} has no documented field {key}");
        }
    }
    writeln!(
        page,
        "\n### `[[watch.criteria]]`\n\n| criterion | stops above | meaning |\n| --- | --- | --- |"
    )
    .unwrap();
    let criteria = quick["watch"]["criteria"].as_array().unwrap();
    for criterion in criteria {
        let name = criterion["criterion"].as_str().unwrap();
        let threshold = criterion
            .get("threshold")
            .map_or("-".into(), |value| format!("`{value}`"));
        let file = format!("selfadapt-metrics/src/{}.rs", name.replace('-', "_"));
        let doc = of_struct(&file);
        writeln!(page, "| `{name}` | {threshold} | {doc} |").unwrap();
    }
    page.push('\n');
    page
}

/// Whether a value gets a table of its own.
fn nested(value: &toml::Value, path: &str) -> bool {
    let tables = |array: &Vec<toml::Value>| array.first().is_some_and(toml::Value::is_table);
    value.as_array().is_some_and(tables) || TABLES.iter().any(|(known, _, _)| *known == path)
}

/// The path of a key of the table at `path`.
fn child(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

/// The table at a path; the first one of an array of tables, none where the array is empty.
fn table(root: &toml::Table, path: &str) -> toml::Table {
    let mut value = toml::Value::Table(root.clone());
    for key in path.split('.').filter(|key| !key.is_empty()) {
        value = value[key].clone();
        if let Some(array) = value.as_array() {
            value = array
                .first()
                .cloned()
                .unwrap_or(toml::Value::Table(toml::Table::new()));
        }
    }
    value.as_table().cloned().unwrap_or_default()
}

fn source(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(file);
    std::fs::read_to_string(path).unwrap()
}

/// The lines of a type between its first, `begin`, and its closing brace.
fn body(file: &str, begin: &str) -> String {
    let text = source(file);
    let after = text.split_once(begin).unwrap().1;
    after.split_once("\n}").unwrap().0.to_owned()
}

/// Public fields of a struct with their documentation, in order.
fn fields(file: &str, name: &str) -> Vec<(String, String)> {
    let body = body(file, &format!("pub struct {name} {{"));
    let (mut doc, mut fields, mut skipped) = (String::new(), Vec::new(), false);
    for line in body.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("///") {
            doc.push_str(more);
        } else if line == "#[serde(skip)]" {
            // Of no file.
            doc.clear();
            skipped = true;
        } else if let Some((field, _)) = line
            .strip_prefix("pub ")
            .and_then(|field| field.split_once(':'))
        {
            let doc = std::mem::take(&mut doc);
            if !std::mem::take(&mut skipped) {
                fields.push((field.to_owned(), plain(&doc)));
            }
        }
    }
    assert!(!fields.is_empty(), "{file} has no struct {name}");
    fields
}

/// The words of an enum with their meanings: `frozen`: kept. `train`: followed.
fn words(file: &str, name: &str) -> String {
    let body = body(file, &format!("pub enum {name} {{"));
    let (mut doc, mut words) = (String::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(more) = line.strip_prefix("///") {
            doc.push_str(more);
        } else if let Some(variant) = line.strip_suffix(',') {
            // A variant with a number is a table in TOML: `{ beta = 0.002 }`.
            let word = match variant.split_once('(') {
                Some((word, _)) => format!("{{ {} = NUMBER }}", word.to_lowercase()),
                None => format!("\"{}\"", variant.to_lowercase()),
            };
            write!(words, " `{word}`: {}", plain(&std::mem::take(&mut doc))).unwrap();
        }
    }
    words
}

/// The documentation of the only struct of a file that is a criterion.
fn of_struct(file: &str) -> String {
    let text = source(file);
    let before = text.split_once("\npub struct ").unwrap().0;
    let mut lines: Vec<&str> = before
        .lines()
        .rev()
        .skip_while(|line| line.starts_with("#["))
        .map_while(|line| line.strip_prefix("///"))
        .collect();
    lines.reverse();
    plain(&lines.concat())
}

/// Links of Rust's documentation as text, and nothing that ends a table's cell.
fn plain(doc: &str) -> String {
    doc.trim()
        .replace("[`", "`")
        .replace("`]", "`")
        .replace('|', "\\|")
}

#[test]
fn fields_are_read_with_their_documentation() {
    let fields: BTreeMap<String, String> = fields("selfadapt-core/src/objective.rs", "Objective")
        .into_iter()
        .collect();
    assert_eq!(fields["l2sp"], "Strength of L2-SP.");
}
