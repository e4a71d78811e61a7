//! Cellpose's own command line, turned into ours: an existing command needs only its first word changed.

mod table;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use crate::failure::Failure;
use table::{Means, TABLE};

/// The diameter that Cellpose takes where its command names none.
const DIAMETER: &str = "30";

/// The model that Cellpose 3 takes where its command names none.
const MODEL: &str = "cyto3";

/// A command line as the parser knows it, and what its user should be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translated {
    pub arguments: Vec<OsString>,
    pub notes: Vec<String>,
}

/// What a Cellpose command asked for, as far as it has to be put together from several flags.
#[derive(Debug, Default)]
struct Asked {
    adapts: bool,
    arguments: Vec<OsString>,
    notes: Vec<String>,
    folder: Option<OsString>,
    image: Option<OsString>,
    filter: Option<OsString>,
    out: Option<OsString>,
    model: bool,
    diameter: Option<OsString>,
    channels: [Option<OsString>; 2],
    saves: Vec<&'static str>,
    masks: Option<(&'static str, &'static str)>,
    no_seg: bool,
}

/// Translates the command line of `segment` or `adapt` if a flag of Cellpose's is in it; else leaves it as it is.
///
/// `arguments` begins with the program.
///
/// # Errors
/// If a flag has no counterpart here; the message says why.
pub fn translate(arguments: Vec<OsString>) -> Result<Translated, Failure> {
    let untouched = |arguments| Translated {
        arguments,
        notes: Vec::new(),
    };
    let Some(at) = subcommand(&arguments) else {
        return Ok(untouched(arguments));
    };
    let adapts = arguments[at] == "adapt";
    let mut rest = arguments[at + 1..].iter().peekable();
    if (arguments[at] != "segment" && !adapts) || !rest.clone().any(|word| flag(word).is_some()) {
        return Ok(untouched(arguments));
    }
    let mut asked = Asked {
        adapts,
        arguments: arguments[..=at].to_vec(),
        ..Asked::default()
    };
    while let Some(word) = rest.next() {
        let Some((name, means, value)) = flag(word) else {
            // Shared by both command lines, and what Cellpose means by it may differ.
            match word.to_str() {
                Some("--diameter") => asked.diameter = rest.next().cloned(),
                Some(text) if text.starts_with("--diameter=") => {
                    asked.diameter = Some(text["--diameter=".len()..].into());
                }
                _ => asked.arguments.push(word.clone()),
            }
            continue;
        };
        let mut values: Vec<OsString> = value.into_iter().collect();
        while values.len() < means.values() {
            let value = rest.next().cloned();
            values.push(value.ok_or_else(|| {
                Failure::new(
                    format!("{name}: expected a value after it, found the end of the command"),
                    "Cellpose's flags are taken as Cellpose takes them",
                )
            })?);
        }
        asked.take(name, means, values)?;
    }
    asked.finish()
}

/// Where the subcommand stands: the first word that is no flag and no flag's value.
fn subcommand(arguments: &[OsString]) -> Option<usize> {
    let mut value = false;
    arguments.iter().enumerate().skip(1).find_map(|(at, word)| {
        let is_flag = word.to_string_lossy().starts_with('-');
        let found = (!value && !is_flag).then_some(at);
        value = word == "--threads";
        found
    })
}

/// Cellpose's flag that a word is, what it means, and the value behind its `=`.
fn flag(word: &OsStr) -> Option<(&'static str, &'static Means, Option<OsString>)> {
    let text = word.to_str()?;
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.into())),
        None => (text, None),
    };
    let (name, means) = TABLE.iter().find(|(known, _)| *known == name)?;
    Some((name, means, value))
}

impl Asked {
    fn take(
        &mut self,
        name: &'static str,
        means: &Means,
        values: Vec<OsString>,
    ) -> Result<(), Failure> {
        let mut values = values.into_iter();
        let mut value = || values.next().unwrap_or_default();
        match means {
            Means::Folder => self.folder = Some(value()),
            Means::Image => self.image = Some(value()),
            Means::Filter => self.filter = Some(value()),
            Means::Out => self.out = Some(value()),
            Means::Model => {
                self.model = true;
                self.push("--model", value());
            }
            Means::Channel(place) => self.channels[*place] = Some(value()),
            Means::Value(ours) if self.adapts => {
                return Err(refusal(name, &format!("adapt has no {ours}")));
            }
            Means::Value(ours) | Means::Shared(ours) => self.push(ours, value()),
            Means::Setting(setting) => {
                let value = value();
                self.set(setting, &value.to_string_lossy());
            }
            Means::Fixed(setting, value) => self.set(setting, value),
            Means::Percentiles => {
                let (low, high) = (value(), value());
                let both = format!("[{},{}]", low.to_string_lossy(), high.to_string_lossy());
                self.set("percentiles", &both);
            }
            Means::MinSize => {
                let value = value();
                let text = value.to_string_lossy();
                // Cellpose switches the limit off by a negative number.
                self.set("min_size", if text.starts_with('-') { "0" } else { &text });
            }
            Means::Niter => {
                let value = value();
                if value != "0" {
                    self.set("niter", &value.to_string_lossy());
                }
            }
            Means::NoSeg => self.no_seg = true,
            Means::Masks(format) => match self.masks {
                Some((other, earlier)) if other != *format => {
                    return Err(refusal(
                        name,
                        &format!(
                            "{earlier} asks for the masks in another format; run it twice or leave one out"
                        ),
                    ));
                }
                _ => self.masks = Some((format, name)),
            },
            Means::Save(kind) => self.saves.push(kind),
            Means::Hardware(_) => self.notes.push(format!(
                "{name}: has no effect; --device chooses, by itself a GPU that can be used"
            )),
            Means::Only(allowed, reason) => {
                let value = value();
                let number = |text: &str| text.parse::<f64>().ok();
                let same = value.to_str().and_then(number) == number(allowed);
                if !same {
                    return Err(refusal(name, reason));
                }
            }
            Means::Refused(_, reason) => return Err(refusal(name, reason)),
        }
        Ok(())
    }

    fn push(&mut self, flag: &str, value: OsString) {
        // As one word: a value may begin with a minus.
        let mut word = OsString::from(format!("{flag}="));
        word.push(value);
        self.arguments.push(word);
    }

    fn set(&mut self, name: &str, value: &str) {
        self.push("--set", format!("{name}={value}").into());
    }

    fn given(&self, ours: &str) -> bool {
        let prefix = format!("{ours}=");
        self.arguments
            .iter()
            .any(|word| word == ours || word.to_string_lossy().starts_with(&prefix))
    }

    fn finish(mut self) -> Result<Translated, Failure> {
        if !self.model && !self.given("--model") && !self.given("--resume") {
            self.push("--model", MODEL.into());
            self.notes
                .push(format!("--model {MODEL}: Cellpose's default"));
        }
        match self.diameter.take() {
            Some(diameter) => {
                let zero = diameter.to_str().and_then(|text| text.parse().ok()) == Some(0.);
                if !zero {
                    self.push("--diameter", diameter);
                }
            }
            None => {
                self.push("--diameter", DIAMETER.into());
                self.notes.push(format!(
                    "--diameter {DIAMETER}: Cellpose's default; --diameter 0 lets the model tell it"
                ));
            }
        }
        if self.channels.iter().any(Option::is_some) {
            let [first, second] = std::mem::take(&mut self.channels)
                .map(|channel| channel.unwrap_or_else(|| "0".into()));
            let both = format!("{},{}", first.to_string_lossy(), second.to_string_lossy());
            self.push("--channels", both.into());
        }
        self.outputs()?;
        self.inputs()?;
        Ok(Translated {
            arguments: self.arguments,
            notes: self.notes,
        })
    }

    /// What is written for each image.
    fn outputs(&mut self) -> Result<(), Failure> {
        if self.adapts {
            if self.no_seg || self.masks.is_some() || !self.saves.is_empty() {
                self.notes.push(
                    "flags about what to save: no effect, adapt writes a model; give them to segment".into(),
                );
            }
            return Ok(());
        }
        if self.given("--save") {
            return Ok(());
        }
        let mut saves = std::mem::take(&mut self.saves);
        if !self.no_seg {
            saves.push("seg");
        }
        if let Some((format, _)) = self.masks {
            saves.push("masks");
            self.push("--format", format.into());
        }
        if saves.is_empty() {
            return Err(refusal(
                "--no_npy",
                "then nothing is left to save; add --save_tif or --save_png",
            ));
        }
        saves.sort_unstable();
        saves.dedup();
        self.push("--save", saves.join(",").into());
        Ok(())
    }

    /// Which images, and where results go: beside them, as Cellpose does, unless told otherwise.
    fn inputs(&mut self) -> Result<(), Failure> {
        let (input, beside) = match (self.folder.take(), self.image.take()) {
            (Some(_), Some(_)) => {
                return Err(refusal(
                    "--image_path",
                    "--dir names images already; give one of them",
                ));
            }
            (Some(folder), None) => {
                let input = match self.filter.take() {
                    Some(ending) => {
                        let mut file = OsString::from("*");
                        file.push(ending);
                        file.push(".*");
                        Path::new(&folder).join(file).into_os_string()
                    }
                    None => folder.clone(),
                };
                (input, folder)
            }
            _ if self.filter.is_some() => {
                return Err(refusal(
                    "--img_filter",
                    "it chooses among the images of --dir, which is not given",
                ));
            }
            (None, Some(image)) => {
                let parent = Path::new(&image).parent().unwrap_or(Path::new(""));
                let beside = if parent.as_os_str().is_empty() {
                    Path::new(".")
                } else {
                    parent
                };
                (image.clone(), beside.as_os_str().to_owned())
            }
            (None, None) => {
                if let Some(out) = self.out.take() {
                    self.push("--out", out);
                }
                return Ok(());
            }
        };
        if let Some(out) = self.out.take() {
            self.push("--out", out);
        } else if !self.given("--out") {
            let out = if self.adapts {
                Path::new(&beside).join("selfadapt")
            } else {
                beside.into()
            };
            self.notes
                .push(format!("--out {}: beside the images", out.display()));
            self.push("--out", out.into_os_string());
        }
        self.arguments.push(input);
        Ok(())
    }
}

fn refusal(name: &str, reason: &str) -> Failure {
    Failure::new(
        format!("{name}: {reason}"),
        "this flag of Cellpose's cannot be honoured, and is not ignored; `selfadapt segment --help` shows what there is",
    )
}

#[cfg(test)]
mod tests;
