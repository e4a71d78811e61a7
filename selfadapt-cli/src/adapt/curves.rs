//! curves.svg: criteria, loss and scores along a run, each in its own small chart.

use std::fmt::Write;

use super::record::{Line, ReadingLine};
use super::thin::{thin, together};

/// One line of a chart.
struct Series {
    label: String,
    points: Vec<(f64, f64)>,
}

/// One chart.
struct Chart {
    title: String,
    series: Vec<Series>,
    /// A dashed horizontal line, with its meaning.
    limit: Option<(f64, String)>,
}

/// The colours of a chart, as CSS.
struct Palette {
    /// Told apart by colour-blind readers, and by their dashes on gray paper.
    series: [&'static str; 4],
    text: &'static str,
    faint: &'static str,
    grid: &'static str,
    mark: &'static str,
}

/// Okabe and Ito's, on white.
const PAPER: Palette = Palette {
    series: ["#0072B2", "#D55E00", "#009E73", "#CC79A7"],
    text: "#000",
    faint: "#555",
    grid: "#ddd",
    mark: "#999",
};

/// Those of the page that the chart stands in.
const PAGE: Palette = Palette {
    series: [
        "var(--line-1)",
        "var(--line-2)",
        "var(--line-3)",
        "var(--line-4)",
    ],
    text: "var(--ink)",
    faint: "var(--faint)",
    grid: "var(--rule)",
    mark: "var(--faint)",
};

const DASHES: [&str; 4] = ["none", "7 3", "2 3", "7 3 2 3"];
const WIDTH: f64 = 420.;
const HEIGHT: f64 = 220.;
const LEFT: f64 = 62.;
const BOTTOM: f64 = 34.;
/// The title, and below it the names of lines.
const TOP: f64 = 44.;
const RIGHT: f64 = 14.;

/// Draws a record as one picture. `thresholds` are those of the criteria that may stop the run; `delivered` is marked.
pub fn draw(lines: &[Line], thresholds: &[(String, f64)], delivered: usize) -> String {
    let charts = charts(lines, thresholds);
    let columns = 2;
    let rows = charts.len().div_ceil(columns);
    let (width, height) = (WIDTH * columns as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        let (x, y) = (
            (index % columns) as f64 * WIDTH,
            (index / columns) as f64 * HEIGHT,
        );
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<g transform=\"translate({x} {y})\">\n{}</g>\n",
            panel(chart, delivered as f64, &PAPER)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Draws a record as one picture a chart, in the colours of the page that they are put into. A script may move the
/// mark of the delivered step: its place is `data-left + step * data-per-step`.
pub fn figures(lines: &[Line], thresholds: &[(String, f64)], delivered: usize) -> String {
    charts(lines, thresholds)
        .iter()
        .map(|chart| {
            format!(
                "<svg class=\"chart\" role=\"img\" aria-label=\"{}\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-size=\"11\" \
                 data-left=\"{LEFT}\" data-per-step=\"{:.4}\">\n{}</svg>\n",
                escape(&chart.title),
                (WIDTH - LEFT - RIGHT) / chart.last_step(),
                panel(chart, delivered as f64, &PAGE)
            )
        })
        .collect()
}

impl Chart {
    /// Points that can be drawn.
    fn points(&self) -> impl Iterator<Item = &(f64, f64)> {
        let all = self.series.iter().flat_map(|s| s.points.iter());
        all.filter(|p| p.1.is_finite())
    }

    /// Where the axis of steps ends.
    fn last_step(&self) -> f64 {
        self.points().map(|p| p.0).fold(1., f64::max)
    }
}

fn charts(lines: &[Line], thresholds: &[(String, f64)]) -> Vec<Chart> {
    let readings: Vec<&ReadingLine> = lines
        .iter()
        .filter_map(|line| {
            if let Line::Reading(reading) = line {
                Some(reading)
            } else {
                None
            }
        })
        .collect();
    let mut charts = Vec::new();
    let series = |label: &str, points: Vec<(f64, f64)>| Series {
        label: label.to_owned(),
        points,
    };
    let scores = |pick: fn(&super::record::TruthLine) -> f64| -> Vec<(f64, f64)> {
        readings
            .iter()
            .filter_map(|r| r.truth.as_ref().map(|truth| (r.step as f64, pick(truth))))
            .collect()
    };
    if readings.iter().any(|r| r.truth.is_some()) {
        charts.push(Chart {
            title: "Average precision against the given labels".into(),
            series: vec![
                series("IoU 0.5", scores(|t| t.ap50)),
                series("IoU 0.75", scores(|t| t.ap75)),
            ],
            limit: None,
        });
    }
    let names: Vec<&String> = readings
        .first()
        .map_or(Vec::new(), |first| first.drifts.keys().collect());
    for name in names {
        let points = readings
            .iter()
            .filter_map(|r| {
                r.drifts
                    .get(name)
                    .copied()
                    .flatten()
                    .map(|drift| (r.step as f64, drift))
            })
            .collect();
        charts.push(Chart {
            title: title(name),
            series: vec![series(name, points)],
            limit: thresholds
                .iter()
                .find(|(of, _)| of == name)
                .map(|(_, limit)| (*limit, format!("stops above {limit}"))),
        });
    }
    let steps: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            if let Line::Step(report) = line {
                Some(report)
            } else {
                None
            }
        })
        .collect();
    let along = |pick: &dyn Fn(&selfadapt_core::adapt::StepReport) -> f64| -> Vec<(f64, f64)> {
        let points = steps
            .iter()
            .map(|report| (report.step as f64, pick(report)));
        thin(&points.collect::<Vec<_>>())
    };
    let means = match together(steps.len()) {
        1 => String::new(),
        steps => format!(" (means of {steps} steps)"),
    };
    charts.push(Chart {
        title: format!("Loss{means}"),
        series: vec![
            series("classification", along(&|r| r.parts.classification)),
            series("regression", along(&|r| r.parts.regression)),
            series("pull of L2-SP", along(&|r| r.pull)),
        ],
        limit: None,
    });
    let heads = steps.iter().map(|report| report.kept.len()).max();
    charts.push(Chart {
        title: format!("Share that the gate admits{means}"),
        series: (0..heads.unwrap_or(0))
            .map(|head| {
                let kept = along(&|r| r.kept.get(head).copied().unwrap_or(f64::NAN));
                series(&format!("output {}", head + 1), kept)
            })
            .collect(),
        limit: None,
    });
    charts
}

/// A criterion's name as a title.
fn title(criterion: &str) -> String {
    let mut words = criterion.replace('-', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

fn panel(chart: &Chart, delivered: f64, palette: &Palette) -> String {
    let points = || chart.points();
    let last = chart.last_step();
    let Palette {
        text,
        faint,
        grid,
        mark,
        ..
    } = palette;
    let limit = chart.limit.as_ref().map(|(value, _)| *value);
    let low = points()
        .map(|p| p.1)
        .chain(limit)
        .fold(f64::INFINITY, f64::min)
        .min(0.);
    let high = points()
        .map(|p| p.1)
        .chain(limit)
        .fold(f64::NEG_INFINITY, f64::max);
    let high = if high > low { high } else { low + 1. };
    let x = |step: f64| LEFT + step / last * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let mut svg = String::new();
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!(
        "<text x=\"{LEFT}\" y=\"16\" font-weight=\"600\" style=\"fill:{text}\">{}</text>",
        escape(&chart.title)
    ));
    for fraction in [0., 0.5, 1.] {
        let value = low + fraction * (high - low);
        let at = y(value);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" style=\"stroke:{grid}\"/>",
            WIDTH - RIGHT
        ));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" style=\"fill:{text}\">{}</text>",
            LEFT - 6.,
            at + 4.,
            short(value)
        ));
        let step = (fraction * last).round();
        put(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" style=\"fill:{text}\">{step}</text>",
            x(step),
            HEIGHT - BOTTOM + 15.
        ));
    }
    put(format!(
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" style=\"fill:{faint}\">step</text>",
        (LEFT + WIDTH - RIGHT) / 2.,
        HEIGHT - 6.
    ));
    if let Some((value, meaning)) = &chart.limit {
        let at = y(*value);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" style=\"stroke:{faint}\" stroke-dasharray=\"5 4\"/>",
            WIDTH - RIGHT
        ));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" style=\"fill:{faint}\">{meaning}</text>",
            WIDTH - RIGHT,
            at - 4.
        ));
    }
    let at = x(delivered);
    put(format!(
        "<line class=\"here\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\" style=\"stroke:{mark}\" stroke-dasharray=\"2 3\"/>",
        HEIGHT - BOTTOM
    ));
    for (index, series) in chart.series.iter().enumerate() {
        let path: Vec<String> = series
            .points
            .iter()
            .filter(|p| p.1.is_finite())
            .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
            .collect();
        let colour = palette.series[index % palette.series.len()];
        let dash = DASHES[index % DASHES.len()];
        put(format!(
            "<polyline fill=\"none\" style=\"stroke:{colour}\" stroke-width=\"1.8\" stroke-dasharray=\"{dash}\" points=\"{}\"/>",
            path.join(" ")
        ));
        if chart.series.len() > 1 {
            let (left, y) = (LEFT + 106. * index as f64, 32.);
            put(format!(
                "<line x1=\"{left}\" x2=\"{}\" y1=\"{}\" y2=\"{}\" style=\"stroke:{colour}\" stroke-width=\"1.8\" stroke-dasharray=\"{dash}\"/>",
                left + 22.,
                y - 4.,
                y - 4.
            ));
            put(format!(
                "<text x=\"{}\" y=\"{y}\" style=\"fill:{text}\">{}</text>",
                left + 26.,
                escape(&series.label)
            ));
        }
    }
    svg
}

/// Three significant digits.
fn short(value: f64) -> String {
    if value == 0. {
        return "0".into();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
