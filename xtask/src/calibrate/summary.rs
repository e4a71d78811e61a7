//! What a calibration comes to: means, the worst run, how much of the best look was captured, and what labels would have
//! chosen.

use super::table::Row;
use crate::experiment::numbers::{self, LEAST_GAIN, share};

/// The summary as Markdown. The first setting is what is judged; with others beside it, what it gains is compared with
/// the best of the others for each set, chosen with the labels.
pub fn markdown(rows: &[Row]) -> String {
    let settings = each_once(rows.iter().map(|row| row.setting.as_str()));
    let lines = settings.iter().map(|setting| {
        let of: Vec<&Row> = rows.iter().filter(|row| row.setting == *setting).collect();
        let changes: Vec<[f64; 2]> = of.iter().map(|row| row.change()).collect();
        let worst = |k: usize| changes.iter().map(|c| c[k]).fold(f64::INFINITY, f64::min);
        vec![
            (*setting).to_owned(),
            of.len().to_string(),
            pair(mean(&changes)),
            pair([worst(0), worst(1)]),
            captured(&of, |gain| gain[0]),
            captured(&of, |gain| gain[1]),
            captured(&of, sum),
        ]
    });
    let head = [
        "setting",
        "runs",
        "mean change",
        "worst run",
        "captured of the best look at 0.5",
        "at 0.75",
        "of the sum",
    ];
    let mut text = numbers::markdown(&head, 1, &lines.collect::<Vec<_>>());
    if let [first, others @ ..] = settings.as_slice()
        && !others.is_empty()
    {
        text.push('\n');
        text.push_str(&against_labels(rows, first, others));
    }
    text
}

/// For each set the best of `others`, or the untouched model, by the sum of both numbers; and the share of that which
/// `first` gains.
fn against_labels(rows: &[Row], first: &str, others: &[&str]) -> String {
    let change = |set: &str, setting: &str| {
        let of = |row: &&Row| row.set == set && row.setting == setting;
        let runs: Vec<[f64; 2]> = rows.iter().filter(of).map(Row::change).collect();
        (!runs.is_empty()).then(|| mean(&runs))
    };
    let (mut lines, mut of_first, mut of_best) = (Vec::new(), Vec::new(), Vec::new());
    for set in each_once(rows.iter().map(|row| row.set.as_str())) {
        let Some(mine) = change(set, first) else {
            continue;
        };
        let mut best = ("kept", [0.; 2]);
        for &other in others {
            if let Some(gained) = change(set, other)
                && sum(gained) > sum(best.1)
            {
                best = (other, gained);
            }
        }
        lines.push([set.to_owned(), pair(mine), pair(best.1), best.0.to_owned()].to_vec());
        of_first.push(mine);
        of_best.push(best.1);
    }
    let (mine, best) = (mean(&of_first), mean(&of_best));
    let shares = [
        share(0., best[0], mine[0]),
        share(0., best[1], mine[1]),
        share(0., sum(best), sum(mine)),
    ];
    let shares = format!(
        "{} / {} of it, {} of the sum",
        shares[0], shares[1], shares[2]
    );
    lines.push(["mean".to_owned(), pair(mine), pair(best), shares].to_vec());
    let head = ["set", first, "best of the others, by the labels", "setting"];
    numbers::markdown(&head, head.len(), &lines)
}

/// What runs deliver of what their best look gains, where that is worth naming.
fn captured(rows: &[&Row], what: impl Fn([f64; 2]) -> f64) -> String {
    let (mut delivered, mut best, mut runs) = (0., 0., 0);
    for row in rows {
        let most = row.looks.iter().map(|look| what(*look));
        let most = most.fold(f64::NEG_INFINITY, f64::max);
        if most > LEAST_GAIN {
            delivered += what(row.change());
            best += most;
            runs += 1;
        }
    }
    match runs {
        0 => "none gains".to_owned(),
        _ => format!("{} of {runs} runs", share(0., best, delivered)),
    }
}

/// Each name once, in the order in which they come first.
fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn mean(changes: &[[f64; 2]]) -> [f64; 2] {
    let n = changes.len().max(1) as f64;
    [0, 1].map(|k| changes.iter().map(|change| change[k]).sum::<f64>() / n)
}

fn sum(change: [f64; 2]) -> f64 {
    change[0] + change[1]
}

fn pair(change: [f64; 2]) -> String {
    format!("{:+.3} / {:+.3}", change[0], change[1])
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
