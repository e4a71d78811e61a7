//! The sets of a calibration: real images, and documented degradations of them.

/// Which half of the sets this one belongs to. Nothing is tuned on the half that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// Settings and thresholds are chosen on these.
    Tune,
    /// Looked at once, after everything was frozen.
    Report,
}

/// One set.
#[derive(Clone, Copy, Debug)]
pub struct Set {
    /// Its name in tables.
    pub name: &'static str,
    /// Its half.
    pub half: Half,
    /// Stems of the images that are adapted to and scored on.
    pub images: Images,
    /// `selfadapt degrade --kind`, where the set is made.
    pub kind: Option<&'static str>,
    /// What the user would give as `--diameter`, in pixels.
    pub diameter: f64,
    /// `--channels`.
    pub channels: &'static str,
}

/// Images by where they come from.
#[derive(Clone, Copy, Debug)]
pub enum Images {
    /// Every second mouse image is adapted to, the others are scored.
    Mouse,
    /// Small nuclei of dsb, 9 to 22 pixels wide; adapted to and scored on the same images.
    DsbSmall,
    /// Nuclei of dsb and StarDist's sample, 24 to 28 pixels wide.
    DsbMiddle,
    /// Large nuclei of dsb, about 50 pixels wide.
    DsbLarge,
    /// StarDist's sample image alone.
    StarDist,
    /// Mouse (every fourth) and large dsb nuclei together.
    Mixture,
}

impl Images {
    /// Stems to adapt to and stems to score on.
    pub fn stems(self) -> (Vec<String>, Vec<String>) {
        let dsb = |numbers: &[usize]| -> Vec<String> {
            numbers.iter().map(|n| format!("dsb_{n:02}")).collect()
        };
        let mouse = |first: usize, step: usize| -> Vec<String> {
            (first..33)
                .step_by(step)
                .map(|n| format!("mouse_{n:02}"))
                .collect()
        };
        let both = |stems: Vec<String>| (stems.clone(), stems);
        match self {
            Self::Mouse => (mouse(0, 2), mouse(1, 2)),
            Self::DsbSmall => both(dsb(&[1, 2, 3, 4, 6, 7, 11, 17, 22, 10, 13, 18])),
            Self::DsbMiddle => {
                let mut stems = dsb(&[14, 15, 19, 20]);
                stems.push("stardist_img2d".into());
                both(stems)
            }
            Self::DsbLarge => both(dsb(&[8, 9, 12, 16, 23, 24])),
            Self::StarDist => both(vec!["stardist_img2d".into()]),
            Self::Mixture => {
                let mut adapt = mouse(0, 4);
                adapt.extend(dsb(&[8, 12, 23]));
                let mut score = mouse(1, 4);
                score.extend(dsb(&[9, 16, 24]));
                (adapt, score)
            }
        }
    }
}

impl Images {
    /// As [`Images::stems`], but never the same images: where those are, every second one is adapted to and the others
    /// are scored on.
    pub fn halves(self) -> (Vec<String>, Vec<String>) {
        let (adapt, score) = self.stems();
        if adapt != score {
            return (adapt, score);
        }
        let mut sorted = adapt;
        sorted.sort();
        let every_second = |first: usize| sorted.iter().skip(first).step_by(2).cloned().collect();
        (every_second(0), every_second(1))
    }
}

/// All sets.
pub const SETS: [Set; 18] = {
    use Half::{Report, Tune};
    use Images::{DsbLarge, DsbMiddle, DsbSmall, Mixture, Mouse, StarDist};
    const fn set(
        name: &'static str,
        half: Half,
        images: Images,
        kind: Option<&'static str>,
        diameter: f64,
    ) -> Set {
        Set {
            name,
            half,
            images,
            kind,
            diameter,
            channels: "0,0",
        }
    }
    [
        set("dsb-small", Tune, DsbSmall, None, 14.),
        set("dsb-large", Tune, DsbLarge, None, 50.),
        set("dsb-small-defocus", Tune, DsbSmall, Some("defocus"), 14.),
        set("dsb-middle-noise", Tune, DsbMiddle, Some("noise"), 25.),
        set("dsb-middle-drift", Tune, DsbMiddle, Some("drift"), 25.),
        set("mouse-low-contrast", Tune, Mouse, Some("low-contrast"), 26.),
        set("mouse-narrow", Tune, Mouse, None, 17.3),
        set("dsb-large-sparse", Tune, DsbLarge, Some("sparse"), 50.),
        set("mixture", Tune, Mixture, None, 32.),
        set("mouse", Report, Mouse, None, 26.),
        set("dsb-middle", Report, DsbMiddle, None, 25.),
        set("stardist", Report, StarDist, None, 23.7),
        set("mouse-defocus", Report, Mouse, Some("defocus"), 26.),
        set("mouse-noise", Report, Mouse, Some("noise"), 26.),
        set(
            "dsb-middle-low-contrast",
            Report,
            DsbMiddle,
            Some("low-contrast"),
            25.,
        ),
        set("dsb-large-invert", Report, DsbLarge, Some("invert"), 50.),
        Set {
            channels: "1,2",
            ..set(
                "dsb-small-second-channel",
                Report,
                DsbSmall,
                Some("second-channel"),
                14.,
            )
        },
        set("dsb-small-wide", Report, DsbSmall, None, 21.),
    ]
};
