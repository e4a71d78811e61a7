//! `selfadapt evaluate`: segmentations against ground truth.

mod pairs;
mod pictures;
mod scores;
mod table;

use std::path::PathBuf;

use selfadapt_core::io;
use serde_json::json;

use crate::console;
use crate::failure::{Failure, Outcome};
use pictures::Pictures;

/// Score segmentations against ground truth
///
/// Pairs <stem>_cp_masks.tif (or .png) in one folder with <stem>_masks.tif (or .png) in another. AP is
/// TP / (TP + FP + FN) at an IoU threshold, as Cellpose computes it; AJI is Cellpose's aggregated Jaccard
/// index; PQ is panoptic quality at IoU 0.5. The last line is the mean over images; its counts are sums.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  selfadapt evaluate --pred masks --truth labels
  selfadapt evaluate --pred masks --truth labels --thresholds 0.5,0.75 --json scores.json")]
pub struct Args {
    /// Folder of predictions, <stem>_cp_masks.{tif,png}
    #[arg(long, value_name = "DIR")]
    pred: PathBuf,
    /// Folder of ground truth, <stem>_masks.{tif,png}
    #[arg(long, value_name = "DIR")]
    truth: PathBuf,
    /// IoU thresholds: FIRST:LAST:STEP, or a list with commas
    #[arg(long, value_name = "RANGE", default_value = "0.5:0.95:0.05", value_parser = scores::thresholds)]
    thresholds: scores::Thresholds,
    /// Also write all scores to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw each pair as pictures into this folder: the image of <stem>_masks beside the ground truth,
    /// alone and with the outlines of prediction and ground truth
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<Outcome, Failure> {
    let found = pairs::find(&args.pred, &args.truth)?;
    let pictures = args.pictures.as_deref();
    let pictures = pictures
        .map(|folder| Pictures::new(folder, &args.truth))
        .transpose()?;
    let bar = console::bar(found.pairs.len(), "evaluating");
    let mut images = Vec::new();
    let mut failed = Vec::new();
    for pair in &found.pairs {
        let drawn = pictures
            .as_ref()
            .map_or(Ok(()), |pictures| pictures.write(pair));
        match drawn.and_then(|()| scores::of_pair(pair, &args.thresholds.0)) {
            Ok(scores) => images.push(scores),
            Err(reason) => failed.push((pair.stem.clone(), reason.to_string())),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let overall = scores::overall(&images, &args.thresholds.0);
    print!("{}", table::render(&images, &overall));
    for (what, stems) in [
        ("without ground truth", &found.without_truth),
        ("without prediction", &found.without_prediction),
    ] {
        if !stems.is_empty() {
            println!("{}", table::listed(what, stems));
        }
    }
    for (stem, reason) in &failed {
        tracing::error!("{stem}: {reason}");
    }
    if let Some(path) = args.json {
        let report = json!({
            "selfadapt": env!("CARGO_PKG_VERSION"),
            "pred": args.pred,
            "truth": args.truth,
            "overall": overall,
            "images": images,
            "without_truth": found.without_truth,
            "without_prediction": found.without_prediction,
            "failed": failed
                .iter()
                .map(|(stem, reason)| json!({"image": stem, "reason": reason}))
                .collect::<Vec<_>>(),
        });
        io::atomic::write_bytes(path, format!("{report:#}\n").as_bytes())?;
    }
    Ok(if failed.is_empty() {
        Outcome::Fine
    } else {
        Outcome::SomeFailed
    })
}
