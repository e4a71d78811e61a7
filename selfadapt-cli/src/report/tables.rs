//! The parts of the page that are text: verdict, numbers, criteria, details.

use std::fmt::Write;

use super::criteria::{licence, spoken};
use super::gather::Gathered;
use crate::adapt::record::{Line, ReadingLine};

/// A number with its label.
fn tile(value: &str, label: &str) -> String {
    format!("<div class=\"tile\"><b>{value}</b><span>{label}</span></div>\n")
}

/// Text as it stands in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// An argument as a shell takes it.
pub fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

/// Heading and sentence of the verdict.
pub fn verdict(run: &Gathered) -> (String, String) {
    let manifest = &run.manifest;
    let heading = match (&manifest.picked_over, manifest.delivered_step) {
        (Some(_), step) => format!("Step {step}, picked by hand"),
        (None, 0) => "Keep your model".into(),
        (None, _) => "Adapted".into(),
    };
    let sentence = ["adapted: ", "keep your model: "]
        .iter()
        .find_map(|start| manifest.verdict.strip_prefix(start))
        .unwrap_or(&manifest.verdict);
    let mut letters = sentence.chars();
    let sentence = letters.next().map_or_else(String::new, |first| {
        format!(
            "{}{}.",
            first.to_uppercase(),
            letters.as_str().trim_end_matches('.')
        )
    });
    (escape(&heading), escape(&sentence))
}

/// The most important numbers of the delivered model.
pub fn tiles(run: &Gathered) -> String {
    let delivered = run.manifest.delivered_step;
    let (Some(first), Some(now)) = (
        run.snapshots.first(),
        run.snapshots.iter().find(|s| s.step == delivered),
    ) else {
        return String::new();
    };
    let counts = now.counts();
    let mut html = String::new();
    html += &tile(&format!("{} → {}", counts.before, counts.after), "cells");
    html += &tile(&counts.kept.to_string(), "found by both");
    for (count, label) in [
        (counts.gained, "gained"),
        (counts.lost, "lost"),
        (counts.split, "split"),
        (counts.merged, "merged"),
        (counts.reshaped, "much reshaped"),
    ] {
        html += &tile(&count.to_string(), label);
    }
    if let (Some(before), Some(after)) = (first.median_diameter(), now.median_diameter()) {
        let label = "median diameter, pixels";
        html += &tile(&format!("{before:.1} → {after:.1}"), label);
    }
    if let Some(truth) = &run.manifest.truth {
        for (label, before, after) in [
            ("AP at IoU 0.5", truth.base_ap50, truth.delivered_ap50),
            ("AP at IoU 0.75", truth.base_ap75, truth.delivered_ap75),
        ] {
            html += &tile(&format!("{before:.3} → {after:.3}"), label);
        }
    }
    html
}

/// One row a criterion that may stop the run.
pub fn criteria(run: &Gathered) -> String {
    let readings: Vec<&ReadingLine> = run
        .lines
        .iter()
        .filter_map(|line| match line {
            Line::Reading(reading) => Some(reading),
            _ => None,
        })
        .collect();
    let delivered = run.manifest.delivered_step;
    let mut html = String::new();
    for (name, limit) in run.config.thresholds() {
        let at = |reading: &ReadingLine| reading.drifts.get(&name).copied().flatten();
        let now = readings.iter().find(|r| r.step == delivered);
        let now = now.and_then(|r| at(r));
        let highest = readings.iter().filter_map(|r| at(r)).reduce(f64::max);
        let crossed = readings
            .iter()
            .find(|r| r.crossed.as_deref() == Some(name.as_str()));
        // Of a look that crossed another limit nothing is known.
        let let_pass =
            |r: &&ReadingLine| r.crossed.is_none() && at(r).is_some_and(|drift| drift > limit);
        let excused = readings.iter().any(let_pass);
        let state = state(crossed.map(|r| r.step), excused);
        let number = |value: Option<f64>| value.map_or("–".into(), |v| format!("{v:.3}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{} <small>{}</small></th><td>{}</td><td>{}</td><td>{limit}</td><td>{state}</td></tr>",
            escape(&spoken(&name)),
            escape(&name.replace('-', " ")),
            number(now),
            number(highest)
        );
    }
    html
}

/// What became of one criterion: its limit was crossed after so many steps, or a value beyond it was let pass.
fn state(crossed: Option<usize>, excused: bool) -> String {
    match crossed {
        Some(step) => format!("▲ too high at step {step}"),
        None if excused => "✓ excused: outlines lie on sharper edges of the images".into(),
        None => "✓ never too high".into(),
    }
}

/// What was run on what.
pub fn details(run: &Gathered) -> String {
    let (manifest, adapt) = (&run.manifest, &run.config.adapt);
    let seconds = run.lines.iter().filter_map(|line| match line {
        Line::Step(report) => Some(report.seconds),
        _ => None,
    });
    let (count, sum) = seconds.fold((0, 0.), |(n, sum), s| (n + 1, sum + s));
    let model = run.config.model.typetag_name();
    let command: Vec<String> = manifest.command.iter().map(|a| quoted(a)).collect();
    let mut rows = vec![
        (
            "Command",
            format!("<code>{}</code>", escape(&command.join(" "))),
        ),
        (
            "Model",
            format!(
                "{model}, {}<br><small>sha256 {}, {} bytes</small>",
                escape(&manifest.weights.path.display().to_string()),
                manifest.weights.sha256,
                manifest.weights.bytes
            ),
        ),
        ("Licence", escape(licence(model))),
        ("Size of objects", escape(&size(run))),
        (
            "Images",
            format!(
                "{}; {} crops of them are shown here",
                manifest.inputs.len(),
                run.crops.len()
            ),
        ),
        (
            "Steps",
            format!(
                "{} of {}, {} crops of {} pixels each, {} views, highest learning rate {}, batch norm {}, seed {}",
                manifest.steps,
                adapt.steps,
                adapt.batch,
                adapt.crop,
                adapt.views,
                adapt.learning_rate,
                format!("{:?}", adapt.batch_norm).to_lowercase(),
                manifest.seed
            ),
        ),
        (
            "Time",
            format!(
                "{:.0} s in all, {:.2} s a step, {} threads",
                manifest.seconds,
                sum / f64::from(count.max(1)),
                manifest.threads
            ),
        ),
        ("Ended by", escape(&manifest.stopped_by.replace('-', " "))),
        (
            "Versions",
            format!(
                "adapted with selfadapt {}, report by {}",
                escape(&manifest.selfadapt),
                env!("CARGO_PKG_VERSION")
            ),
        ),
    ];
    if let Some(choice) = &manifest.picked_over {
        let told = format!("step {}: {}", choice.step, choice.verdict);
        rows.push(("The run itself chose", escape(&told)));
    }
    for note in &manifest.notes {
        rows.push(("Note", escape(note)));
    }
    rows.iter()
        .map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>\n"))
        .collect()
}

fn size(run: &Gathered) -> String {
    use selfadapt_core::model::Sizing;
    match run.config.sizing {
        Sizing::Native => "what the model was trained on".into(),
        Sizing::Diameter(pixels) => format!("diameter {pixels} pixels"),
        Sizing::PixelSize(um) => format!("pixels of {um} µm"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_a_shell_would_read_them_otherwise() {
        assert_eq!(quoted("run/a-1.tif"), "run/a-1.tif");
        assert_eq!(quoted("my images"), "'my images'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_limit_is_crossed_excused_or_kept() {
        assert_eq!(state(Some(15), true), "▲ too high at step 15");
        assert!(state(None, true).starts_with("✓ excused"));
        assert_eq!(state(None, false), "✓ never too high");
    }
}
