//! The printed table of scores.

use super::scores::{Overall, Scores};

/// So many thresholds have a column each.
const FEW: usize = 4;

/// Of more, these have one.
const COLUMNS: [f64; 3] = [0.5, 0.75, 0.9];

/// How many names are listed in a line before it says how many more there are.
const LISTED: usize = 8;

/// One line an image, then one for all.
pub fn render(images: &[Scores], overall: &Overall) -> String {
    let all = &overall.scores.average_precision;
    let mut columns: Vec<usize> = (0..all.len())
        .filter(|&i| {
            let mut columns = COLUMNS.iter();
            all.len() <= FEW || columns.any(|column| (all[i].threshold - column).abs() < 1e-9)
        })
        .collect();
    if columns.is_empty() {
        columns.push(0);
    }
    let mut header: Vec<String> = ["image", "true", "pred"].map(String::from).to_vec();
    for &i in &columns {
        header.push(format!("AP@{}", all[i].threshold));
    }
    header.push("AP mean".into());
    let first = columns[0];
    for count in ["TP", "FP", "FN"] {
        header.push(format!("{count}@{}", all[first].threshold));
    }
    header.extend(["AJI", "PQ"].map(String::from));

    let mut rows = vec![header];
    rows.extend(
        images
            .iter()
            .map(|image| row(&image.image, image, &columns, first)),
    );
    let noun = if overall.images == 1 {
        "image"
    } else {
        "images"
    };
    let name = match overall.empty {
        0 => format!("{} {noun}", overall.images),
        empty => format!("{} {noun}, {empty} empty", overall.images),
    };
    rows.push(row(&name, &overall.scores, &columns, first));
    align(&rows)
}

/// `3 images without prediction: a, b, c`.
pub fn listed(what: &str, stems: &[String]) -> String {
    let noun = if stems.len() == 1 { "image" } else { "images" };
    let shown = stems
        .iter()
        .take(LISTED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    let more = match stems.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} {noun} {what}: {shown}{more}", stems.len())
}

fn row(name: &str, scores: &Scores, columns: &[usize], first: usize) -> Vec<String> {
    let at = &scores.average_precision;
    let mut cells = vec![
        name.to_owned(),
        scores.truths.to_string(),
        scores.predictions.to_string(),
    ];
    cells.extend(columns.iter().map(|&i| ratio(at[i].ap)));
    cells.push(ratio(scores.mean_average_precision));
    cells.extend(
        [
            at[first].true_positives,
            at[first].false_positives,
            at[first].false_negatives,
        ]
        .map(|count| count.to_string()),
    );
    cells.extend([scores.aggregated_jaccard, scores.panoptic_quality].map(ratio));
    cells
}

fn ratio(value: f64) -> String {
    if value.is_nan() {
        "-".into()
    } else {
        format!("{value:.3}")
    }
}

/// Names to the left, numbers to the right, two spaces between columns.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| {
            let cells = rows.iter().filter_map(|row| row.get(i));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            if i == 0 {
                text.push_str(&format!("{cell:<width$}"));
            } else {
                text.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push('\n');
    }
    text
}
