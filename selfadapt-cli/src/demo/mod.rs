//! `selfadapt demo`: draws images, adapts a small model to them with the commands that a user would give, and scores.

mod draw;
mod picture;
mod script;

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::ValueEnum;
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::{self, outputs, tiff};

use crate::device::DeviceFlag;
use crate::failure::{Failure, Outcome};
use draw::Domain;
use script::Script;

/// A small CPnet, taught by `cargo xtask train-demo` on images of [`Domain::SOURCE`].
const MODEL: &[u8] = include_bytes!("model.safetensors");

/// Images that are scored and not adapted to.
const HELD_OUT: usize = 8;

/// See it work, in a minute, with nothing to download.
///
/// Draws images of cells as another microscope would show them, and segments them with a small
/// model that comes with the program and knows only its own kind of image. Then adapts the model to
/// the images, without their labels, and segments again. The labels are used at the end, to score
/// images that were not adapted to.
///
/// Examples:
///   selfadapt demo
///   selfadapt demo --out elsewhere --json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folder for images, masks, the adapted model and its report
    #[arg(long, value_name = "DIR", default_value = "selfadapt-demo")]
    out: PathBuf,
    /// Print the scores as JSON and nothing else
    #[arg(long)]
    json: bool,
    /// Seed of the images and of the adaptation
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images to adapt to
    #[arg(long, value_name = "N", default_value_t = 16)]
    images: usize,
    /// Side of an image in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 256)]
    side: usize,
    /// Steps of the adaptation [default: those of `selfadapt adapt`]
    #[arg(long)]
    steps: Option<usize>,
    /// Adapt to another kind of image: a file of the numbers (TOML) that docs/demo.md lists
    #[arg(long, value_name = "FILE")]
    domain: Option<PathBuf>,
    #[command(flatten)]
    flag: DeviceFlag,
    /// Only draw labelled images of this kind, and stop
    #[arg(long, value_enum, value_name = "KIND")]
    draw: Option<Kind>,
}

/// A kind of image.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// What the small model was trained on
    Source,
    /// What it is adapted to
    Shifted,
}

/// Runs the subcommand.
///
/// # Errors
/// If the folder holds something already or cannot be written, or a part of the demonstration fails.
pub fn run(args: Args) -> Result<Outcome, Failure> {
    let began = Instant::now();
    if args.side < 64 || args.images == 0 {
        return Err(Failure::new(
            format!(
                "expected at least 1 image of 64 pixels a side, found {} of {}",
                args.images, args.side
            ),
            "leave out --images and --side for the usual demonstration",
        ));
    }
    let out = &args.out;
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(
            format!("{}: this folder holds something already", out.display()),
            "choose another one with --out, or delete it",
        ));
    }
    let shifted = match &args.domain {
        Some(path) => read_domain(path)?,
        None => Domain::SHIFTED,
    };
    if let Some(kind) = args.draw {
        let domain = match kind {
            Kind::Source => Domain::SOURCE,
            Kind::Shifted => shifted,
        };
        write_set(out, &domain, &args, args.images, 0, true)?;
        return Ok(Outcome::Fine);
    }
    write_set(&out.join("images"), &shifted, &args, args.images, 0, false)?;
    let held_out = out.join("held-out");
    write_set(&held_out, &shifted, &args, HELD_OUT, args.images, true)?;
    let model = out.join("model.safetensors");
    io::atomic::write_bytes(&model, MODEL)?;

    // The images are smaller than the crops that a Cellpose model is usually adapted on.
    let settings = out.join("settings.toml");
    let text = format!("[adapt]\ncrop = {}\n", crop(args.side));
    io::atomic::write_bytes(&settings, text.as_bytes())?;

    let script = Script::new(args.json, args.flag.device)?;
    let (before, after, run) = (out.join("before"), out.join("after"), out.join("run"));
    script.say(&format!(
        "{} images of another microscope in {}, and {HELD_OUT} more, with labels, to score by",
        args.images,
        out.join("images").display()
    ));
    script.segment(&model, &before, &held_out)?;
    let images = out.join("images");
    script.adapt(&model, &run, &images, &settings, args.seed, args.steps)?;
    script.segment(&run, &after, &held_out)?;
    let scored = [
        script.score(&before, &held_out)?,
        script.score(&after, &held_out)?,
    ];
    let picture = out.join("before-after.png");
    picture::write(&picture, &held_out, &[&before, &after])?;
    let found = Found {
        scored,
        seconds: began.elapsed().as_secs_f64(),
        report: run.join(crate::report::FILE),
        picture,
    };
    if args.json {
        println!("{}", found.json());
    } else {
        println!("{found}");
    }
    Ok(Outcome::Fine)
}

/// A kind of image from a file of its numbers.
fn read_domain(path: &Path) -> Result<Domain> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::read(path, e))?;
    let domain: Domain = toml::from_str(&text).map_err(|e| Error::read(path, e))?;
    domain.check().map_err(|e| Error::read(path, e))?;
    Ok(domain)
}

/// Side of a crop that fits into an image of `side` pixels at the small model's scale, a multiple of 16.
fn crop(side: usize) -> usize {
    const WORKING: (usize, usize) = (2, 3);
    (side * WORKING.0 / WORKING.1 / 16 * 16).min(160)
}

/// What the demonstration came to.
struct Found {
    /// Before and after.
    scored: [script::Score; 2],
    seconds: f64,
    report: PathBuf,
    picture: PathBuf,
}

impl Found {
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "ap50_before": self.scored[0].ap50,
            "ap50_after": self.scored[1].ap50,
            "seconds": self.seconds,
            "report": self.report,
        })
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "\n{HELD_OUT} images not adapted to, {} cells    found  AP@0.5  AP@0.75",
            self.scored[0].truth
        )?;
        for (name, score) in ["before adaptation", "after adaptation "]
            .iter()
            .zip(&self.scored)
        {
            writeln!(
                f,
                "{name:<38}  {:>5}   {:.3}    {:.3}",
                score.predicted, score.ap50, score.ap75
            )?;
        }
        writeln!(f, "\n{:.0} s. To look at:", self.seconds)?;
        writeln!(f, "  {}  truth, before and after", self.picture.display())?;
        write!(
            f,
            "  {}  what adaptation did, step by step",
            self.report.display()
        )
    }
}

/// Draws `count` images, those from number `first` on, and with `labelled` their labels.
fn write_set(
    folder: &Path,
    domain: &Domain,
    args: &Args,
    count: usize,
    first: usize,
    labelled: bool,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::write(folder, e))?;
    for index in first..first + count {
        let drawn = draw::draw(domain, args.side, args.seed, index);
        let file = |end: &str| folder.join(format!("cells_{index:03}{end}.tif"));
        tiff::write(file(""), drawn.image.view())?;
        if labelled {
            outputs::write_masks_tif(file("_masks"), &drawn.labels)?;
        }
    }
    Ok(())
}
