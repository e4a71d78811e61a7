//! Table 2: what each part of the method is worth, by leaving it out.

use std::fmt::Write;

use super::domain::{ABLATIONS, Domain, Plan, Start};
use super::paper::Paper;
use super::stops::{SCORES, Stop, scores};
use crate::experiment::numbers::{Spread, difference, markdown};
use crate::experiment::record::{Reading, Record};
use crate::steps::Outcome;

/// Runs with all parts and without one each, by the name of what is left out.
pub type Ablated = Vec<(&'static str, Vec<Record>)>;

/// Reads the runs of a domain.
///
/// # Errors
/// If one is not finished.
pub fn read(domain: &Domain, plan: &Plan) -> Outcome<Ablated> {
    let mut all = vec![("all", domain.records(plan, Start::Base, None)?)];
    for ablation in &ABLATIONS {
        let records = domain.records(plan, Start::Base, Some(ablation))?;
        all.push((ablation.0, records));
    }
    Ok(all)
}

/// The table as a page: a part for each domain.
///
/// # Errors
/// If a run recorded nothing.
pub fn page(all: &[(&Domain, Ablated)], paper: Option<&Paper>) -> Outcome<String> {
    let mut text = String::new();
    for (domain, ablated) in all {
        let mut whole = f64::NAN;
        let mut rows = Vec::new();
        for (left_out, records) in ablated {
            let best = over(records, Stop::TestMax, |reading| reading.ap50)?;
            let end = over(records, Stop::End, |reading| reading.ap50)?;
            let end75 = over(records, Stop::End, |reading| reading.ap75)?;
            if *left_out == "all" {
                whole = best.mean;
            }
            let mut row = vec![words(left_out).to_owned(), best.score()];
            if let Some(paper) = paper {
                let printed = paper.at(&[left_out, &domain.name]);
                let either = |part: &dyn Fn(&Spread) -> String| {
                    let parts: Vec<String> = printed.iter().map(part).collect();
                    parts.join(" or ")
                };
                row.push(either(&|found| found.score()));
                row.push(either(&|found| difference(best.mean - found.mean)));
            }
            row.push(difference(best.mean - whole));
            row.extend([end.score(), end75.score()]);
            rows.push(row);
        }
        let mut head = vec!["", "AP@0.5 (Test Max)"];
        if paper.is_some() {
            head.extend(["paper", "difference"]);
        }
        head.extend([
            "against all parts",
            "AP@0.5 (last step)",
            "AP@0.75 (last step)",
        ]);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "## {}\n\n{}", domain.title, markdown(&head, 1, &rows));
    }
    Ok(text)
}

/// Every score of every seed.
///
/// # Errors
/// If a run recorded nothing.
pub fn csv(all: &[(&Domain, Ablated)]) -> Outcome<String> {
    let mut text = format!("set,left_out,{SCORES}\n");
    for (domain, ablated) in all {
        for (left_out, records) in ablated {
            for stop in [Stop::TestMax, Stop::End] {
                scores(
                    &mut text,
                    &format!("{},{left_out}", domain.name),
                    stop,
                    records,
                )?;
            }
        }
    }
    Ok(text)
}

fn over(records: &[Record], stop: Stop, score: fn(&Reading) -> f64) -> Outcome<Spread> {
    let scores = records.iter().map(|record| Ok(score(stop.of(record)?)));
    Ok(Spread::of(&scores.collect::<Outcome<Vec<_>>>()?))
}

fn words(left_out: &str) -> &str {
    match left_out {
        "all" => "all parts",
        "no-filter" => "without the confidence filter",
        "no-tta" => "without test-time augmentation",
        "no-l2sp" => "without L2-SP",
        "no-strong" => "without strong augmentation",
        other => other,
    }
}
