//! Figure 2: every criterion along a run beside the true score, and where its threshold lies.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::domain::Domain;
use crate::experiment::numbers::markdown;
use crate::experiment::record::{Reading, Record};

/// The paper's panels first, in its order; what else a run records follows.
const PANELS: [(&str, &str); 13] = [
    ("mean-confidence", "(a) mean confidence"),
    ("view-variance", "(a) variance over views"),
    ("source-distance", "(b) distance to source embeddings"),
    ("false-negative-rate", "(c) false negative rate"),
    ("embedding-distance", "(d) embedding distance"),
    ("inconsistency", "flow error of instances"),
    ("new-instances", "new instances"),
    ("instability", "instability under degradation"),
    ("view-disagreement", "disagreement of views"),
    ("instance-count", "number of instances"),
    ("instance-size", "size of instances"),
    ("shrinkage", "shrinkage of known instances"),
    ("dullness", "dullness of edges under outlines"),
];

const WIDTH: f64 = 300.;
const HEIGHT: f64 = 210.;
const LEFT: f64 = 52.;
const RIGHT: f64 = 46.;
const TOP: f64 = 26.;
const BOTTOM: f64 = 34.;
const COLUMNS: usize = 3;

/// Okabe and Ito's blue for the criterion and vermilion for the score; the latter is dashed, too.
const CRITERION: &str = "#0072B2";
const SCORE: &str = "#D55E00";

/// The criteria that were recorded, by name and title: the known ones in their order, then any others.
fn recorded(records: &[Record]) -> Vec<(String, String)> {
    let readings = records.iter().flat_map(|record| &record.readings);
    let names = readings.flat_map(|reading| reading.drifts.keys());
    let names: BTreeSet<&str> = names.map(String::as_str).collect();
    let known = PANELS.iter().filter(|(name, _)| names.contains(name));
    let known = known.map(|(name, title)| ((*name).to_owned(), (*title).to_owned()));
    let is_known = |name: &str| PANELS.iter().any(|(known, _)| *known == name);
    let others = names.iter().filter(|name| !is_known(name));
    let others = others.map(|name| ((*name).to_owned(), name.replace('-', " ")));
    known.chain(others).collect()
}

/// Draws the runs of a domain: thick that of seed 0, thin the others.
pub fn draw(domain: &Domain, records: &[Record]) -> String {
    let panels = recorded(records);
    let (width, height) = (
        WIDTH * COLUMNS as f64,
        HEIGHT * panels.len().div_ceil(COLUMNS) as f64 + 44.,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"10\" fill=\"#000\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"13\" font-weight=\"600\">{}: criteria and the true score along the run</text>\n\
         <text x=\"{LEFT}\" y=\"34\"><tspan fill=\"{CRITERION}\">solid, left: criterion</tspan> · \
         <tspan fill=\"{SCORE}\">dashed, right: AP@0.5 on scored images</tspan> · \
         dotted: threshold · thick: seed 0</text>\n",
        escape(&domain.title)
    );
    for (index, (name, title)) in panels.iter().enumerate() {
        let x = (index % COLUMNS) as f64 * WIDTH;
        let y = (index / COLUMNS) as f64 * HEIGHT + 44.;
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<g transform=\"translate({x} {y})\">\n{}</g>",
            panel(name, title, records)
        );
    }
    svg + "</svg>\n"
}

/// How well the order of a criterion's values is that of the score: rank correlation within each run, mean over runs.
pub fn table(records: &[Record]) -> String {
    let all = recorded(records);
    let rows = all.iter().filter_map(|(name, title)| {
        let of = |record: &Record| {
            let pairs: Vec<(f64, f64)> = record
                .readings
                .iter()
                .filter_map(|reading| Some((*reading.drifts.get(name)?, reading.ap50)))
                .filter(|(drift, score)| drift.is_finite() && score.is_finite())
                .collect();
            rank_correlation(&pairs)
        };
        let found: Vec<f64> = records.iter().filter_map(of).collect();
        let last = |reading: &Reading| reading.drifts.get(name).copied();
        let ends: Vec<f64> = records
            .iter()
            .filter_map(|record| last(record.readings.last()?))
            .collect();
        if ends.is_empty() {
            return None;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let threshold = records.first()?.thresholds.get(name);
        Some(vec![
            title.clone(),
            if found.is_empty() {
                "-".into()
            } else {
                format!("{:+.2}", mean(&found))
            },
            format!("{:+.3}", mean(&ends)),
            threshold.map_or_else(|| "none".into(), |value| format!("{value}")),
        ])
    });
    let head = [
        "criterion",
        "rank correlation with AP@0.5",
        "at the last step",
        "threshold",
    ];
    markdown(&head, 1, &rows.collect::<Vec<_>>())
}

/// Spearman's; none of fewer than three pairs, or where one side never changes.
fn rank_correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < 3 {
        return None;
    }
    let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (a, b) = (ranks(&first), ranks(&second));
    let mean = (pairs.len() as f64 + 1.) / 2.;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    (scale > 0.).then(|| product(&a, &b) / scale)
}

/// Ranks from 1; equals share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count() as f64;
        let equal = values.iter().filter(|other| *other == value).count() as f64;
        below + (equal + 1.) / 2.
    };
    values.iter().map(rank).collect()
}

fn panel(name: &str, title: &str, records: &[Record]) -> String {
    let series = |of: &dyn Fn(&Reading) -> f64| -> Vec<Vec<(f64, f64)>> {
        records
            .iter()
            .map(|record| {
                let points = record.readings.iter().map(|r| (r.step as f64, of(r)));
                points.filter(|point| point.1.is_finite()).collect()
            })
            .collect()
    };
    let drifts = series(&|reading| reading.drifts.get(name).copied().unwrap_or(f64::NAN));
    let scores = series(&|reading| reading.ap50);
    let threshold = records
        .first()
        .and_then(|record| record.thresholds.get(name));
    let steps = drifts.iter().chain(&scores).flatten().map(|point| point.0);
    let last = steps.fold(1., f64::max);
    let left = Axis::of(
        drifts
            .iter()
            .flatten()
            .map(|p| p.1)
            .chain(threshold.copied()),
    );
    let right = Axis::of(scores.iter().flatten().map(|p| p.1));
    let x = |step: f64| LEFT + step / last * (WIDTH - LEFT - RIGHT);
    let mut svg = String::new();
    let mut put = |line: String| {
        svg.push_str(&line);
        svg.push('\n');
    };
    put(format!(
        "<text x=\"{LEFT}\" y=\"16\" font-weight=\"600\">{}</text>",
        escape(title)
    ));
    let end = WIDTH - RIGHT;
    for fraction in [0., 0.5, 1.] {
        let y = HEIGHT - BOTTOM - fraction * (HEIGHT - TOP - BOTTOM);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"{CRITERION}\">{}</text>\
             <text x=\"{}\" y=\"{:.1}\" fill=\"{SCORE}\">{}</text>\
             <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0}</text>",
            LEFT - 5.,
            y + 3.,
            short(left.at(fraction)),
            end + 5.,
            y + 3.,
            short(right.at(fraction)),
            x(fraction * last),
            HEIGHT - BOTTOM + 14.,
            fraction * last
        ));
    }
    put(format!(
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">step</text>",
        (LEFT + end) / 2.,
        HEIGHT - 7.
    ));
    if let Some(value) = threshold {
        let y = left.y(*value);
        put(format!(
            "<line x1=\"{LEFT}\" x2=\"{end}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#555\" stroke-dasharray=\"1.5 3\"/>\
             <text x=\"{}\" y=\"{:.1}\" fill=\"#555\">stops above {value}</text>",
            LEFT + 3.,
            y + if y < TOP + 12. { 11. } else { -4. }
        ));
    }
    for (all, axis, colour, dash) in [
        (&drifts, &left, CRITERION, "none"),
        (&scores, &right, SCORE, "5 3"),
    ] {
        for (seed, points) in all.iter().enumerate() {
            let path: Vec<String> = points
                .iter()
                .map(|point| format!("{:.1},{:.1}", x(point.0), axis.y(point.1)))
                .collect();
            let stroke = if seed == 0 { 2. } else { 0.7 };
            put(format!(
                "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"{stroke}\" stroke-dasharray=\"{dash}\" points=\"{}\"/>",
                path.join(" ")
            ));
        }
    }
    svg
}

/// The range of a vertical axis.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        match (low.is_finite(), high > low) {
            (true, true) => Self { low, high },
            (true, false) => Self {
                low: low - 0.05,
                high: low + 0.05,
            },
            _ => Self { low: 0., high: 1. },
        }
    }

    fn at(&self, fraction: f64) -> f64 {
        self.low + fraction * (self.high - self.low)
    }

    fn y(&self, value: f64) -> f64 {
        let fraction = (value - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - fraction * (HEIGHT - TOP - BOTTOM)
    }
}

/// Three significant digits.
fn short(value: f64) -> String {
    if value.abs() < 1e-9 {
        return "0".into();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 5) as usize;
    format!("{value:.digits$}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_correlation_is_spearmans() {
        let up = [(1., 10.), (2., 30.), (5., 31.), (9., 100.)];
        assert_eq!(rank_correlation(&up), Some(1.));
        let down = up.map(|(a, b)| (a, -b));
        assert_eq!(rank_correlation(&down), Some(-1.));
        // scipy.stats.spearmanr([1, 2, 2, 4], [1, 3, 2, 4]) is .9487.
        let tied = [(1., 1.), (2., 3.), (2., 2.), (4., 4.)];
        assert!((rank_correlation(&tied).unwrap() - 0.948_683).abs() < 1e-5);
        assert_eq!(rank_correlation(&[(1., 1.), (1., 2.), (1., 3.)]), None);
        assert_eq!(rank_correlation(&up[..2]), None);
    }
}
