//! The verdict: what a run came to, in a sentence, with its reasons.

use std::path::Path;

use selfadapt_core::error::Result;
use selfadapt_core::labels::Labels;
use selfadapt_core::run::{Ending, Outcome};
use selfadapt_core::stop::{Reading, Verdict};

use super::manifest::Manifest;
use super::record::Line;
use crate::console::count;

/// What ended a run, as one word for machines.
pub fn stopped_by(outcome: &Outcome) -> &'static str {
    match &outcome.ending {
        Ending::Finished => "end-of-schedule",
        Ending::Crossed(Verdict::Crossed { criterion, .. }) => criterion,
        Ending::Crossed(Verdict::Continue) => "criterion",
        Ending::Declined => "choice",
        Ending::Interrupted => "user",
        Ending::OutOfTime => "budget",
    }
}

/// The verdict for people; `stops` says whether criteria could end the run or were only recorded.
pub fn sentence(outcome: &Outcome, stops: bool) -> String {
    let accepted = outcome.accepted;
    let crossing = match &outcome.ending {
        Ending::Crossed(Verdict::Crossed {
            criterion,
            drift,
            threshold,
        }) => Some(format!(
            "{} reached {drift:.3} where {threshold} is allowed",
            spoken(criterion)
        )),
        _ => None,
    };
    if outcome.ending == Ending::Declined {
        return "keep your model: of the ways of adapting that were tried for some steps, none came closer to these \
                images without losing what the model knew"
            .into();
    }
    match (accepted, crossing) {
        (0, Some(crossing)) => format!(
            "keep your model: at the first look, after {} steps, {crossing}; nothing that was learned before is trusted",
            outcome.steps
        ),
        (0, None) => {
            "keep your model: the run ended before its first look at the validation crops".into()
        }
        (_, Some(crossing)) => format!(
            "adapted: the weights of step {accepted} are delivered; at step {} {crossing}",
            outcome.steps
        ),
        (_, None) if !stops => format!(
            "the weights of step {accepted} are delivered as asked, whatever the criteria say: look at the curves before using them"
        ),
        (_, None) => format!(
            "adapted: the weights of step {accepted} are delivered, and no criterion spoke against them"
        ),
    }
}

/// A criterion's name in words.
pub fn spoken(criterion: &str) -> &str {
    match criterion {
        "false-negative-rate" => "the share of the first model's cells that are no longer found",
        "embedding-distance" => "the distance of the features from the first model's",
        "new-instances" => "the share of cells that the first model did not find",
        "shrinkage" => "the shrinking of the first model's cells (logarithm of the ratio of areas)",
        "dullness" => {
            "how much less the images change along the outlines of the first model's cells (logarithm of a ratio)"
        }
        "inconsistency" => "the contradiction between the maps and the cells decoded from them",
        other => other,
    }
}

/// What a person should know of cells that changed their size while the model learned, and were held to their first one; `steps`
/// are those whose weights are delivered.
pub fn held(lines: &[Line], steps: usize) -> Option<String> {
    let looks = || {
        lines.iter().filter_map(|line| match line {
            Line::Reading(reading) if reading.step <= steps => Some(reading),
            _ => None,
        })
    };
    let falls: Vec<f64> = looks().filter_map(|look| look.held).collect();
    let factors: Vec<f64> = looks().filter_map(|look| look.stretched).collect();
    if !falls.is_empty() {
        return Some(format!(
            "cells grew while the model learned, and were drawn back to their first size at {}: the bias of the foreground is \
             {:.2} lower for it",
            count(falls.len(), "look"),
            falls.iter().sum::<f64>()
        ));
    }
    (!factors.is_empty()).then(|| {
        format!(
            "the size of cells changed while the model learned, and was brought back at {}: all lengths that the model predicts \
             are {:.3} times as long for it",
            count(factors.len(), "look"),
            factors.iter().product::<f64>()
        )
    })
}

/// What speaks for caution before anything was learned.
pub fn doubts(initial: &Reading) -> Vec<String> {
    let found: usize = initial.instances.iter().map(Labels::count).sum();
    let crops = initial.instances.len();
    let mut doubts = Vec::new();
    if found < 2 * crops {
        doubts.push(format!(
            "the pretrained model finds only {} in {}; pseudo-labels are mostly background then, and a wrong diameter \
             or channel is the commonest reason",
            count(found, "object"),
            count(crops, "validation crop")
        ));
    }
    doubts
}

/// Notes on images that could not be used; of a long list the beginning and its length.
pub fn listed(left_out: &[String]) -> Vec<String> {
    const LISTED: usize = 20;
    let told = left_out.iter().take(LISTED);
    let mut notes: Vec<String> = told.map(|reason| format!("left out: {reason}")).collect();
    if left_out.len() > LISTED {
        notes.push(format!(
            "left out: {} more images, which the messages of the run name",
            left_out.len() - LISTED
        ));
    }
    notes
}

/// Prints the verdict: a few lines, or the manifest's last entries as JSON.
///
/// # Errors
/// If the numbers cannot be written as JSON.
pub fn tell(manifest: &Manifest, folder: &Path, json: bool) -> Result<()> {
    if json {
        let last = serde_json::json!({
            "delivered_step": manifest.delivered_step,
            "stopped_by": manifest.stopped_by,
            "verdict": manifest.verdict,
            "seconds": manifest.seconds,
        });
        println!("{last}");
        return Ok(());
    }
    println!("{}", manifest.verdict);
    if let Some(truth) = manifest.truth {
        println!(
            "against the given labels: AP@0.5 {:.3} -> {:.3} (highest {:.3} at step {}), AP@0.75 {:.3} -> {:.3}",
            truth.base_ap50,
            truth.delivered_ap50,
            truth.test_max_ap50,
            truth.test_max_step,
            truth.base_ap75,
            truth.delivered_ap75
        );
    }
    for note in &manifest.notes {
        println!("note: {note}");
    }
    println!(
        "{} steps in {:.0} s; use it with: selfadapt segment --model {} --out masks IMAGES",
        manifest.steps,
        manifest.seconds,
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::record::ReadingLine;
    use std::collections::BTreeMap;

    #[test]
    fn only_looks_up_to_the_delivered_step_count_as_held() {
        let look = |step: usize, held: Option<f64>| {
            Line::Reading(ReadingLine {
                step,
                drifts: BTreeMap::new(),
                instances: 1,
                held,
                stretched: None,
                crossed: None,
                truth: None,
            })
        };
        let lines = [
            look(0, None),
            look(5, Some(0.25)),
            look(10, None),
            look(15, Some(0.5)),
            look(20, Some(1.)),
        ];
        assert_eq!(held(&lines, 0), None);
        let told = held(&lines, 5).unwrap();
        assert!(
            told.contains("at 1 look:") && told.contains("0.25 lower"),
            "{told}"
        );
        let told = held(&lines, 15).unwrap();
        assert!(
            told.contains("at 2 looks:") && told.contains("0.75 lower"),
            "{told}"
        );
        let stretched = |step: usize, factor: f64| match look(step, None) {
            Line::Reading(reading) => Line::Reading(ReadingLine {
                stretched: Some(factor),
                ..reading
            }),
            other => other,
        };
        let lines = [stretched(5, 1.1), stretched(10, 1.2), stretched(15, 2.)];
        let told = held(&lines, 10).unwrap();
        assert!(
            told.contains("at 2 looks:") && told.contains("1.320 times"),
            "{told}"
        );
    }
}
