//! Folders of image files with label image files beside them: Cellpose's own set, and pairs of any origin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::choose::{choose_split, missing, plain_name};
use super::files::{Files, name, stem};
use super::{Dataset, Kind, LeftOut, Sample, Source, Split, Wish};
use crate::error::{Error, Result};
use crate::io::{self, Axes, inputs};

/// Endings of image files.
const ENDINGS: [&str; 5] = ["tif", "tiff", "png", "jpg", "jpeg"];

/// Endings of the stems of images, and of their label images.
#[derive(Clone, Copy)]
struct Naming {
    image: &'static str,
    labels: &'static str,
}

/// `000_img.png`, `000_masks.png`.
const CELLPOSE: Naming = Naming {
    image: "_img",
    labels: "_masks",
};

/// `a.tif`, `a_masks.tif`.
const PAIRS: Naming = Naming {
    image: "",
    labels: "_masks",
};

/// Endings of stems that are neither images nor their labels, but results.
const RESULTS: [&str; 4] = ["_cp_masks", "_flows", "_cellprob", "_seg"];

/// Whether it is Cellpose's set, or named as that.
pub(super) fn is_cellpose(files: &Files) -> bool {
    let ending = |ending: &'static str| {
        !files
            .named(|name| stem(Path::new(name)).ends_with(ending) && is_image(name))
            .is_empty()
    };
    ending(CELLPOSE.image) && ending(CELLPOSE.labels)
}

/// Whether there are label images named after images.
pub(super) fn is_pairs(files: &Files) -> bool {
    !files
        .named(|name| stem(Path::new(name)).ends_with(PAIRS.labels) && is_image(name))
        .is_empty()
}

fn is_image(name: &str) -> bool {
    ENDINGS.contains(&inputs::extension(Path::new(name)).as_str())
}

/// Opens a split of Cellpose's set.
pub(super) fn open_cellpose(files: &Files, wish: &Wish) -> Result<Dataset> {
    open(Kind::Cellpose, CELLPOSE, files, wish)
}

/// Opens folders of pairs.
pub(super) fn open_pairs(files: &Files, wish: &Wish) -> Result<Dataset> {
    open(Kind::Pairs, PAIRS, files, wish)
}

/// The split that a file's folders name, below the root.
fn split_of(root: &Path, path: &Path) -> Option<Split> {
    let below = path.strip_prefix(root).unwrap_or(path).parent()?;
    Split::ALL.into_iter().find(|split| {
        below
            .components()
            .any(|part| part.as_os_str().eq_ignore_ascii_case(split.name()))
    })
}

fn open(kind: Kind, naming: Naming, files: &Files, wish: &Wish) -> Result<Dataset> {
    let all = files.named(is_image);
    let there: Vec<Split> = Split::ALL
        .into_iter()
        .filter(|&split| {
            all.iter()
                .any(|path| split_of(files.root(), path) == Some(split))
        })
        .collect();
    let split = match (wish.split, there.is_empty()) {
        (None, true) => None,
        // The folder may itself be the split.
        (Some(split), true) if files.root().ends_with(split.name()) => Some(split),
        (wish, _) => Some(choose_split(kind, files, &there, wish)?),
    };
    let within: Vec<&Path> = all
        .into_iter()
        .filter(|path| there.is_empty() || split_of(files.root(), path) == split)
        .collect();
    let (pairs, notes) = pair(kind, naming, files, &within, wish.skip_unpaired)?;
    let mut names = Vec::new();
    let mut seen: BTreeMap<String, &Path> = BTreeMap::new();
    for pair in &pairs {
        let own = stem(&pair.image);
        let bare = own.strip_suffix(naming.image).unwrap_or(&own);
        let plain = plain_name(bare);
        if let Some(other) = seen.insert(plain.clone(), &pair.image) {
            return Err(Error::read(
                &pair.image,
                format!(
                    "it has the name of {}; unpack their folders one by one",
                    other.display()
                ),
            ));
        }
        names.push(plain);
    }
    Ok(Dataset {
        kind,
        version: None,
        split,
        channels: Vec::new(),
        pixel_size: None,
        files: Vec::new(),
        notes,
        names,
        source: Box::new(Folders { pairs }),
    })
}

struct Pair {
    image: PathBuf,
    labels: PathBuf,
}

/// Where the label images of a folder of images are looked for, and the image's stem without what names add.
fn key(path: &Path, ending: &str) -> Option<(PathBuf, String)> {
    let own = stem(path);
    let bare = own.strip_suffix(ending)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    // `images/a.tif` and `labels/a_masks.tif` belong together as if they lay in one folder.
    let folder = match name(folder).as_str() {
        "images" | "labels" | "masks" => folder.parent().unwrap_or(Path::new("")),
        _ => folder,
    };
    (!bare.is_empty()).then(|| (folder.to_owned(), bare.to_owned()))
}

fn pair(
    kind: Kind,
    naming: Naming,
    files: &Files,
    within: &[&Path],
    skip: bool,
) -> Result<(Vec<Pair>, Vec<String>)> {
    let mut labels: BTreeMap<(PathBuf, String), &Path> = BTreeMap::new();
    let mut images: Vec<((PathBuf, String), &Path)> = Vec::new();
    for &path in within {
        let own = stem(path);
        if RESULTS.iter().any(|ending| own.ends_with(ending)) {
            continue;
        }
        if let Some(key) = key(path, naming.labels) {
            if let Some(other) = labels.insert(key, path) {
                return Err(Error::read(
                    path,
                    format!("a second label image for the image of {}", other.display()),
                ));
            }
        } else if let Some(key) = key(path, naming.image) {
            images.push((key, path));
        }
    }
    let (mut pairs, mut bare, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for (key, image) in images {
        match labels.remove(&key) {
            Some(labels) => pairs.push(Pair {
                image: image.to_owned(),
                labels: labels.to_owned(),
            }),
            None => bare.push(image),
        }
    }
    let orphans: Vec<&Path> = labels.into_values().collect();
    if pairs.is_empty() {
        let what = format!(
            "no image with labels: {} images and {} label images without one another",
            bare.len(),
            orphans.len()
        );
        return Err(missing(kind, files, &what));
    }
    for (alone, what) in [
        (bare, "images have no labels"),
        (orphans, "label images have no image"),
    ] {
        let Some(first) = alone.first() else { continue };
        let told = format!("{} {what}, for example {}", alone.len(), first.display());
        if !skip {
            return Err(missing(
                kind,
                files,
                &format!("{told} (add what is missing, or leave these out with --skip-unpaired)"),
            ));
        }
        notes.push(format!("left out: {told}"));
    }
    Ok((pairs, notes))
}

struct Folders {
    pairs: Vec<Pair>,
}

impl Source for Folders {
    fn visit(
        &self,
        chosen: &[usize],
        take: &mut dyn FnMut(usize, Result<Sample>) -> Result<()>,
    ) -> Result<()> {
        for &place in chosen {
            if let Some(pair) = self.pairs.get(place) {
                take(place, read(pair))?;
            }
        }
        Ok(())
    }
}

fn read(pair: &Pair) -> Result<Sample> {
    let (image, _) = io::read(&pair.image, &Axes::default())?;
    let labels = io::read_labels(&pair.labels)?;
    if labels.size() != image.size() {
        return Err(Error::read(
            &pair.labels,
            format!(
                "expected labels of {:?} pixels (height, width) as the image has, found {:?}",
                image.size(),
                labels.size()
            ),
        ));
    }
    Ok(Sample {
        image,
        labels,
        left_out: LeftOut::default(),
    })
}
