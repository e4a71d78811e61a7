//! One self-contained page from what was gathered.

use selfadapt_core::error::{Error, Result};
use selfadapt_metrics::changes::Fate;
use serde_json::{Value, json};

use super::gather::{Gathered, Seen};
use super::tables::{self, escape, quoted};
use crate::adapt::curves;

const TEMPLATE: &str = include_str!("template.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// The page. It loads nothing: style, script and pictures stand in it, and it forbids itself any request.
///
/// # Errors
/// If the template asks for something unknown.
pub fn render(run: &Gathered) -> Result<String> {
    let (heading, sentence) = tables::verdict(run);
    let delivered = run.manifest.delivered_step;
    let root = quoted(&run.root.display().to_string());
    let mut charts = curves::figures(&run.lines, &run.config.thresholds(), delivered);
    for (index, name) in run.outputs.iter().enumerate() {
        charts = charts.replace(&format!(">output {}<", index + 1), &format!(">{name}<"));
    }
    let hidden = run.stored - run.snapshots.len();
    let more = match hidden {
        0 => String::new(),
        n => format!(" {n} more are stored; <code>selfadapt pick</code> lists them all."),
    };
    fill(&[
        ("style", STYLE.to_owned()),
        ("script", SCRIPT.to_owned()),
        // A `<` would end the element that the data stands in.
        ("data", data(run).to_string().replace('<', "\\u003c")),
        ("title", format!("{heading}: {}", escape(&root))),
        ("heading", heading),
        ("sentence", sentence),
        ("tiles", tables::tiles(run)),
        ("crops", run.crops.len().to_string()),
        ("images", run.manifest.inputs.len().to_string()),
        ("more", more),
        ("criteria", tables::criteria(run)),
        ("charts", charts),
        ("details", tables::details(run)),
        ("run", escape(&root)),
    ])
}

/// Replaces `{{name}}` by its value, once through, so that a value may hold braces.
fn fill(values: &[(&str, String)]) -> Result<String> {
    let mut page = String::new();
    let mut rest = TEMPLATE;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| {
            Error::Setting(format!(
                "the report's template asks for {name}, which nothing gives"
            ))
        })?;
        page += before;
        page += value;
        rest = after;
    }
    page += rest;
    Ok(page)
}

/// What the script draws.
fn data(run: &Gathered) -> Value {
    let nothing = Vec::new();
    let before = run.snapshots.first().map_or(&nothing, |first| &first.seen);
    let snapshots: Vec<Value> = run
        .snapshots
        .iter()
        .map(|snapshot| {
            let crops: Vec<Value> = snapshot.seen.iter().map(seen).collect();
            json!({ "step": snapshot.step, "total": snapshot.counts(), "crops": crops })
        })
        .collect();
    let crops: Vec<Value> = run
        .crops
        .iter()
        .map(|crop| json!({ "name": crop.name, "side": crop.side, "picture": crop.picture }))
        .collect();
    json!({
        "run": quoted(&run.root.display().to_string()),
        "delivered": run.manifest.delivered_step,
        "crops": crops,
        "before": before.iter().map(|seen| &seen.outlines).collect::<Vec<_>>(),
        "snapshots": snapshots,
    })
}

fn seen(seen: &Seen) -> Value {
    let tenths = |d: &f64| (10. * d).round() / 10.;
    json!({
        "counts": seen.changes.counts(),
        "diameters": seen.diameters.iter().map(tenths).collect::<Vec<_>>(),
        "outlines": seen.outlines,
        "before": letters(&seen.changes.before),
        "after": letters(&seen.changes.after),
    })
}

/// One letter a cell.
fn letters(fates: &[Fate]) -> String {
    fates
        .iter()
        .map(|fate| match fate {
            Fate::Kept => 'k',
            Fate::Reshaped => 'r',
            Fate::Split => 's',
            Fate::Merged => 'm',
            Fate::Alone => 'a',
        })
        .collect()
}
