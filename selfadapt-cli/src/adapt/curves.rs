//! curves.svg: criteria, loss and scores along a run, each in its own small chart.

use std::fmt::Write;

use super::record::{Line, ReadingLine};

/// One line of a chart.
struct Series {
    label: String,
    points: Vec<(f64, f64)>,
    colour: &'static str,
}

/// One chart.
struct Chart {
    title: String,
    series: Vec<Series>,
    /// A dashed horizontal line, with its meaning.
    limit: Option<(f64, String)>,
}

/// Okabe and Ito's palette: told apart by colour-blind readers.
const COLOURS: [&str; 4] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];
const WIDTH: f64 = 420.;
const HEIGHT: f64 = 220.;
const LEFT: f64 = 62.;
const BOTTOM: f64 = 34.;
const TOP: f64 = 30.;
const RIGHT: f64 = 14.;

/// Draws a record. `thresholds` are those of the criteria that may stop the run; `delivered` is marked.
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
            panel(chart, delivered as f64)
        );
    }
    svg.push_str("</svg>\n");
    svg
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
    let series = |label: &str, colour: usize, points: Vec<(f64, f64)>| Series {
        label: label.to_owned(),
        points,
        colour: COLOURS[colour % COLOURS.len()],
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
                series("IoU 0.5", 0, scores(|t| t.ap50)),
                series("IoU 0.75", 1, scores(|t| t.ap75)),
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
            title: name.replace('-', " "),
            series: vec![series(name, 0, points)],
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
        steps
            .iter()
            .map(|report| (report.step as f64, pick(report)))
            .collect()
    };
    charts.push(Chart {
        title: "Loss".into(),
        series: vec![
            series("classification", 0, along(&|r| r.parts.classification)),
            series("regression", 1, along(&|r| r.parts.regression)),
            series("pull of L2-SP", 2, along(&|r| r.pull)),
        ],
        limit: None,
    });
    charts
}

fn panel(chart: &Chart, delivered: f64) -> String {
    let points = || {
        chart
            .series
            .iter()
            .flat_map(|s| s.points.iter())
            .filter(|p| p.1.is_finite())
    };
    let last = points().map(|p| p.0).fold(1., f64::max);
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
        "<text x=\"{LEFT}\" y=\"16\" font-weight=\"600\">{}</text>",
        escape(&chart.title)
    ));
    for fraction in [0., 0.5, 1.] {
        let value = low + fraction * (high - low);
        let at = y(value);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        ));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.,
            at + 4.,
            short(value)
        ));
        let step = (fraction * last).round();
        put(format!(
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{step}</text>",
            x(step),
            HEIGHT - BOTTOM + 15.
        ));
    }
    put(format!(
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">step</text>",
        (LEFT + WIDTH - RIGHT) / 2.,
        HEIGHT - 6.
    ));
    if let Some((value, meaning)) = &chart.limit {
        let at = y(*value);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#555\" stroke-dasharray=\"5 4\"/>",
            WIDTH - RIGHT
        ));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{meaning}</text>",
            WIDTH - RIGHT,
            at - 4.
        ));
    }
    let at = x(delivered);
    put(format!(
        "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{}\" stroke=\"#999\" stroke-dasharray=\"2 3\"/>",
        HEIGHT - BOTTOM
    ));
    for (index, series) in chart.series.iter().enumerate() {
        let path: Vec<String> = series
            .points
            .iter()
            .filter(|p| p.1.is_finite())
            .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
            .collect();
        put(format!(
            "<polyline fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\" points=\"{}\"/>",
            series.colour,
            path.join(" ")
        ));
        if chart.series.len() > 1 {
            put(format!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"{}\">{}</text>",
                WIDTH - RIGHT,
                16. + 13. * index as f64,
                series.colour,
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
    text.replace('&', "&amp;").replace('<', "&lt;")
}
