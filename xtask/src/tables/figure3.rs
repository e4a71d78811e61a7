//! Figure 3: images, what was found in them before and after adaptation, and what is there.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use super::domain::{Domain, Plan, Start};
use crate::experiment::folders::{make, put, read, stems};
use crate::experiment::numbers::score;
use crate::experiment::program::Program;
use crate::steps::Outcome;

/// The first so many scored images are shown; nobody chooses.
const IMAGES: usize = 3;

const PANEL: f64 = 230.;
const GAP: f64 = 8.;
const TOP: f64 = 62.;
const CAPTION: f64 = 20.;

/// One network's masks.
struct Found {
    pictures: PathBuf,
    scores: Value,
}

/// Segments the first scored images before and after the adaptation of seed 0, and draws them. `work` is for files that
/// are needed on the way.
///
/// # Errors
/// If a command fails, or a file cannot be read or written.
pub fn draw(program: &Program, domain: &Domain, plan: &Plan, work: &Path) -> Outcome<String> {
    let scored = domain.folder.join("score");
    let masks = "_masks";
    let mut names = stems(&scored)?;
    names.retain(|stem| !stem.ends_with(masks));
    names.truncate(IMAGES);
    let images = work.join("images");
    make(&images)?;
    for stem in &names {
        for file in [format!("{stem}.tif"), format!("{stem}{masks}.tif")] {
            put(&scored.join(&file), &images.join(&file))?;
        }
    }
    let adapted = domain.adaptation(plan, Start::Base, None, 0).run;
    let before = found(
        program,
        domain,
        &domain.model,
        &images,
        &work.join("before"),
    )?;
    let after = found(program, domain, &adapted, &images, &work.join("after"))?;
    picture(domain, &names, &before, &after)
}

/// Segments, scores and draws.
fn found(
    program: &Program,
    domain: &Domain,
    model: &Path,
    images: &Path,
    to: &Path,
) -> Outcome<Found> {
    let (masks, pictures, json) = (
        to.join("masks"),
        to.join("pictures"),
        to.join("scores.json"),
    );
    make(to)?;
    let mut arguments: Vec<OsString> = vec!["segment".into(), "--model".into(), model.into()];
    arguments.extend(["--channels".into(), domain.channels.into()]);
    arguments.extend(domain.sizing.iter().map(OsString::from));
    arguments.extend(["--out".into(), masks.clone().into(), images.into()]);
    program.run(arguments)?;
    let flags = ["--pred", "--truth", "--pictures", "--json"];
    let paths = [masks.as_path(), images, &pictures, &json];
    let mut arguments: Vec<OsString> = vec!["evaluate".into()];
    for (flag, path) in flags.into_iter().zip(paths) {
        arguments.extend([flag.into(), path.into()]);
    }
    program.run(arguments)?;
    let scores = serde_json::from_str(&read(&json)?);
    Ok(Found {
        pictures,
        scores: scores.map_err(|e| format!("{}: {e}", json.display()))?,
    })
}

impl Found {
    /// AP at IoU 0.5 of an image.
    fn ap50(&self, stem: &str) -> f64 {
        let mut images = self.scores["images"].as_array().into_iter().flatten();
        let image = images.find(|image| image["image"] == stem);
        let all = image.and_then(|image| image["average_precision"].as_array());
        let mut all = all.into_iter().flatten();
        let at = all.find(|at| at["threshold"] == 0.5);
        at.and_then(|at| at["ap"].as_f64()).unwrap_or(f64::NAN)
    }
}

fn picture(domain: &Domain, names: &[String], before: &Found, after: &Found) -> Outcome<String> {
    let mut rows = String::new();
    let mut y = TOP;
    for stem in names {
        let panels = [
            (before, "image", String::new()),
            (
                before,
                "pred",
                format!("AP@0.5 {}", score(before.ap50(stem))),
            ),
            (after, "pred", format!("AP@0.5 {}", score(after.ap50(stem)))),
            (before, "truth", String::new()),
        ];
        let mut height: f64 = 0.;
        for (column, (found, kind, caption)) in panels.into_iter().enumerate() {
            let path = found.pictures.join(format!("{stem}_{kind}.png"));
            let png = std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
            let tall = PANEL
                * proportion(&png)
                    .ok_or_else(|| format!("{}: expected a PNG picture", path.display()))?;
            let x = GAP + column as f64 * (PANEL + GAP);
            // Writing to a string cannot fail.
            let _ = writeln!(
                rows,
                "<image x=\"{x}\" y=\"{y:.1}\" width=\"{PANEL}\" height=\"{tall:.1}\" image-rendering=\"pixelated\" \
                 href=\"data:image/png;base64,{}\"/>\n<text x=\"{x}\" y=\"{:.1}\">{caption}</text>",
                BASE64_STANDARD.encode(&png),
                y + tall + 13.
            );
            height = height.max(tall);
        }
        y += height + CAPTION;
    }
    let width = GAP + 4. * (PANEL + GAP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y:.0}\" width=\"{width}\" height=\"{y:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"20\" font-size=\"13\" font-weight=\"600\">{}: the first scored images, seed 0, last step</text>\n",
        domain.title.replace('&', "&amp;").replace('<', "&lt;")
    );
    for (column, head) in ["image", "before adaptation", "after", "labels"]
        .iter()
        .enumerate()
    {
        let x = GAP + column as f64 * (PANEL + GAP);
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{}\" font-weight=\"600\">{head}</text>",
            TOP - 8.
        );
    }
    Ok(svg + &rows + "</svg>\n")
}

/// Height by width of a PNG picture, which its first chunk tells.
fn proportion(png: &[u8]) -> Option<f64> {
    let number = |from: usize| {
        let bytes: [u8; 4] = png.get(from..from + 4)?.try_into().ok()?;
        Some(f64::from(u32::from_be_bytes(bytes)))
    };
    let (width, height) = (number(16)?, number(20)?);
    (png.starts_with(b"\x89PNG") && width > 0.).then_some(height / width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(BASE64_STANDARD.encode(plain), coded);
        }
    }

    #[test]
    fn a_pictures_proportion_stands_in_its_head() {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        png.extend([0, 0, 1, 0, 0, 0, 0, 128]);
        assert_eq!(proportion(&png), Some(0.5));
        assert_eq!(proportion(&png[..20]), None);
    }
}
