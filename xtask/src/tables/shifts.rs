//! Our own sets: three real shifts, from images that are there without a download of gigabytes.

use std::path::Path;

use super::domain::{Domain, Tuned};
use super::scale::{Scale, at_most};
use crate::calibrate::sets::Images;
use crate::experiment::folders::{Choice, fill};
use crate::experiment::program::Program;
use crate::steps::Outcome;

/// Where a set comes from.
struct Shift {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    images: Images,
    degraded: Option<&'static str>,
    diameter: f64,
}

/// Chosen by what they cost the pretrained model alone, before any was adapted to.
const SHIFTS: [Shift; 3] = [
    Shift {
        name: "mouse",
        title: "Mouse embryo nuclei",
        about: "Nuclei of mouse embryos (DenoiSeg's Mouse, without noise): every second of 33 images is adapted to, of \
                the others the first are scored. `--diameter 26`, the median of its cells.",
        images: Images::Mouse,
        degraded: None,
        diameter: 26.,
    },
    Shift {
        name: "dsb-wide",
        title: "DSB nuclei at a wrong scale",
        about: "Small nuclei (about 14 pixels) of the 2018 Data Science Bowl, worked on as if they were 21 pixels wide: \
                every second of 12 images is adapted to, the others are scored. At IoU 0.75 this costs the pretrained \
                model three fifths of its score on these images (.190 against .480 at 14 pixels).",
        images: Images::DsbSmall,
        degraded: None,
        diameter: 21.,
    },
    Shift {
        name: "dsb-noise",
        title: "DSB nuclei in noise",
        about: "The same images with at most 20 photons a pixel and read noise (`selfadapt degrade --kind noise`), \
                `--diameter 14`. Of the degradations defocus, noise and low contrast it is the one that costs the \
                pretrained model most at IoU 0.5 (.577, against .661, .800 and .852 undegraded); that alone decided.",
        images: Images::DsbSmall,
        degraded: Some("noise"),
        diameter: 14.,
    },
];

/// Makes the sets from the folder of reference data, and says which models meet them.
///
/// # Errors
/// If an image cannot be read or written.
pub fn domains(
    program: &Program,
    assets: &Path,
    sets: &Path,
    scale: &Scale,
) -> Outcome<Vec<Domain>> {
    SHIFTS
        .iter()
        .map(|shift| shift.domain(program, assets, sets, scale))
        .collect()
}

impl Shift {
    fn domain(
        &self,
        program: &Program,
        assets: &Path,
        sets: &Path,
        scale: &Scale,
    ) -> Outcome<Domain> {
        let (adapt, score) = self.images.halves();
        let adapt = at_most(adapt, scale.adapted);
        let score = at_most(score, scale.scored);
        let folder = sets.join(format!("{}-{}-{}", self.name, adapt.len(), score.len()));
        let (data, labelled) = (assets.join("data"), folder.join("labelled"));
        let degraded = self.degraded;
        let parts = [
            ("labelled", &adapt, data.as_path(), degraded, true),
            // Adaptation is given a folder without labels, so that there is nothing to take by mistake.
            ("adapt", &adapt, labelled.as_path(), None, false),
            ("score", &score, data.as_path(), degraded, true),
        ];
        for (part, stems, from, degraded, labels) in parts {
            let choice = Choice {
                from,
                stems,
                degraded,
                labels,
            };
            fill(program, &folder.join(part), &choice)?;
        }
        Ok(Domain {
            name: self.name.into(),
            title: self.title.into(),
            about: self.about.into(),
            folder,
            model: assets.join("cellpose/cyto_scellseg.pt"),
            sizing: vec!["--diameter".into(), self.diameter.to_string()],
            channels: "0,0",
            tuned: Tuned::Here,
            l2sp: [None, None],
        })
    }
}
