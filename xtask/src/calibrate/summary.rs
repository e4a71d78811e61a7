//! What a calibration comes to: means, the worst run, how much of the best look was captured, and what labels would have
//! chosen.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::table::Row;

/// Runs whose best look gains no more than this have nothing to capture: it is noise.
const GAIN: f64 = 0.01;

/// The summary as Markdown. The first setting is what is judged; with others beside it, what it gains is compared with
/// the best of the others for each set, chosen with the labels.
pub fn markdown(rows: &[Row]) -> String {
    let mut settings: Vec<&str> = Vec::new();
    for row in rows {
        if !settings.contains(&row.setting.as_str()) {
            settings.push(&row.setting);
        }
    }
    let mut text = "| setting | runs | mean change | worst run | captured of the best look at 0.5 | at 0.75 | of the sum |\n| --- | ---: | --- | --- | ---: | ---: | ---: |\n".to_owned();
    for setting in &settings {
        let of: Vec<&Row> = rows.iter().filter(|row| row.setting == *setting).collect();
        let changes: Vec<[f64; 2]> = of.iter().map(|row| row.change()).collect();
        let worst = |k: usize| changes.iter().map(|c| c[k]).fold(f64::INFINITY, f64::min);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {setting} | {} | {} | {} | {} | {} | {} |",
            of.len(),
            pair(mean(&changes)),
            pair([worst(0), worst(1)]),
            captured(&of, |gain| gain[0]),
            captured(&of, |gain| gain[1]),
            captured(&of, |gain| gain[0] + gain[1]),
        );
    }
    if let [first, others @ ..] = settings.as_slice()
        && !others.is_empty()
    {
        text.push_str(&against_labels(rows, first, others));
    }
    text
}

/// For each set the best of `others`, or the untouched model, by the sum of both numbers; and the share of that which
/// `first` gains.
fn against_labels(rows: &[Row], first: &str, others: &[&str]) -> String {
    let mut means: BTreeMap<(&str, &str), Vec<[f64; 2]>> = BTreeMap::new();
    for row in rows {
        let runs = means.entry((&row.set, &row.setting)).or_default();
        runs.push(row.change());
    }
    let means: BTreeMap<_, _> = means.iter().map(|(key, all)| (*key, mean(all))).collect();
    let mut text = format!(
        "\n| set | {first} | best of the others, by the labels | |\n| --- | --- | --- | --- |\n"
    );
    let (mut of_first, mut of_best) = (Vec::new(), Vec::new());
    for set in rows.iter().map(|row| row.set.as_str()) {
        // In the order of the rows, each set once.
        if of_first.iter().any(|(done, _)| *done == set) {
            continue;
        }
        let Some(&mine) = means.get(&(set, first)) else {
            continue;
        };
        let candidates = others
            .iter()
            .filter_map(|other| Some((*other, *means.get(&(set, *other))?)));
        let (name, best) = candidates.fold(("kept", [0.; 2]), |best, other| {
            let sum = |change: [f64; 2]| change[0] + change[1];
            if sum(other.1) > sum(best.1) {
                other
            } else {
                best
            }
        });
        let _ = writeln!(text, "| {set} | {} | {} | {name} |", pair(mine), pair(best));
        of_first.push((set, mine));
        of_best.push(best);
    }
    let of_first: Vec<[f64; 2]> = of_first.into_iter().map(|(_, change)| change).collect();
    let (mine, best) = (mean(&of_first), mean(&of_best));
    let share = |k: usize| percent(mine[k], best[k]);
    let sum = percent(mine[0] + mine[1], best[0] + best[1]);
    let _ = writeln!(
        text,
        "| mean | {} | {} | {} / {} of it, {sum} of the sum |",
        pair(mine),
        pair(best),
        share(0),
        share(1)
    );
    text
}

/// What runs deliver of what their best look gains, where that is worth naming.
fn captured(rows: &[&Row], what: impl Fn([f64; 2]) -> f64) -> String {
    let (mut delivered, mut best, mut runs) = (0., 0., 0);
    for row in rows {
        let most = row.looks.iter().map(|look| what(*look));
        let most = most.fold(f64::NEG_INFINITY, f64::max);
        if most > GAIN {
            delivered += what(row.change());
            best += most;
            runs += 1;
        }
    }
    match runs {
        0 => "none gains".to_owned(),
        _ => format!("{} of {runs} runs", percent(delivered, best)),
    }
}

fn mean(changes: &[[f64; 2]]) -> [f64; 2] {
    let n = changes.len().max(1) as f64;
    [0, 1].map(|k| changes.iter().map(|change| change[k]).sum::<f64>() / n)
}

fn pair(change: [f64; 2]) -> String {
    format!("{:+.3} / {:+.3}", change[0], change[1])
}

fn percent(part: f64, whole: f64) -> String {
    if whole > 0. {
        format!("{:.0} %", 100. * part / whole)
    } else {
        "-".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::table::tests::row;

    #[test]
    fn a_setting_is_measured_by_the_best_look_and_by_what_labels_would_choose() {
        let rows = [
            // Delivers .04 at IoU 0.5 where a look before had .05; what labels choose gives .08.
            row("a", "auto", [0.04, 0.10], &[[0.05, 0.02], [0.04, 0.10]]),
            row("a", "frozen", [0.08, 0.12], &[[0.08, 0.12]]),
            row("a", "clean", [0.09, 0.01], &[[0.09, 0.01]]),
            // Keeps the model, which is right: both others harm.
            row("b", "auto", [0., 0.], &[]),
            row("b", "frozen", [-0.1, 0.02], &[[-0.1, 0.02]]),
            row("b", "clean", [-0.2, 0.], &[[-0.2, 0.]]),
        ];
        let text = markdown(&rows);
        for expected in [
            "| auto | 2 | +0.020 / +0.050 | +0.000 / +0.000 | 80 % of 1 runs | 100 % of 1 runs | 100 % of 1 runs |",
            "| a | +0.040 / +0.100 | +0.080 / +0.120 | frozen |",
            "| b | +0.000 / +0.000 | +0.000 / +0.000 | kept |",
            "| mean | +0.020 / +0.050 | +0.040 / +0.060 | 50 % / 83 % of it, 70 % of the sum |",
        ] {
            assert!(text.contains(expected), "{expected}\nis not in\n{text}");
        }
    }

    #[test]
    fn one_setting_is_compared_with_nothing() {
        let rows = [row("a", "auto", [0., 0.], &[])];
        let text = markdown(&rows);
        assert!(text.contains("none gains") && !text.contains("by the labels"));
    }
}
