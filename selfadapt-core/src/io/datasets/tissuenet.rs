//! TissueNet 1.0 and 1.1 (Greenwald et al., Nature Biotechnology 2022): nuclear and membrane channel of tissues.

use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3};

use super::choose::{choose_split, matching, missing, plain_name};
use super::files::{Files, name};
use super::items::Item;
use super::npz::Archive;
use super::{Compartment, Dataset, Kind, LeftOut, Sample, Source, Split, Wish};
use crate::error::{Error, Result};
use crate::image::{Image, PixelType};
use crate::labels::Labels;

/// The versions that are known.
const VERSIONS: [&str; 2] = ["1.0", "1.1"];

/// Whether a folder holds it.
pub(super) fn fits(files: &Files) -> bool {
    Split::ALL.iter().any(|&split| find(files, split).is_some())
}

/// The archive of a split: `tissuenet_v1.1_test.npz`, or `test.npz` as DeepCell unpacks it.
fn find(files: &Files, split: Split) -> Option<&Path> {
    let named = format!("_{}.npz", split.name());
    let bare = format!("{}.npz", split.name());
    let hits = files.named(|name| {
        let name = name.to_lowercase();
        name == bare || (name.contains("tissuenet") && name.ends_with(&named))
    });
    hits.into_iter().find(|path| {
        // A bare name may be anybody's.
        name(path) != bare
            || Archive::open(path).is_ok_and(|archive| archive.has("X") && archive.has("y"))
            || path.to_string_lossy().to_lowercase().contains("tissuenet")
    })
}

/// The version in the names of a file and of its folder: `tissuenet_v1.1_test.npz`, `tissuenet_v1-1/test.npz`.
fn version_of(path: &Path) -> Option<String> {
    let folder = path.parent().map(name).unwrap_or_default();
    [name(path), folder].iter().find_map(|text| {
        let text = text.to_lowercase();
        let (_, rest) = text.split_once("tissuenet")?;
        let rest = rest.trim_start_matches(['_', '-']).trim_start_matches('v');
        let version: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || matches!(c, '.' | '-'))
            .collect();
        let version = version.trim_matches(['.', '-']).replace('-', ".");
        (!version.is_empty()).then_some(version)
    })
}

/// Opens a split.
pub(super) fn open(files: &Files, wish: &Wish) -> Result<Dataset> {
    let there: Vec<Split> = Split::ALL
        .into_iter()
        .filter(|&split| find(files, split).is_some())
        .collect();
    let split = choose_split(Kind::Tissuenet, files, &there, wish.split)?;
    let path = find(files, split)
        .ok_or_else(|| missing(Kind::Tissuenet, files, "no archive"))?
        .to_owned();
    let fail = |reason: String| Error::read(&path, reason);
    let archive = Archive::open(&path).map_err(fail)?;
    for wanted in ["X", "y"] {
        if !archive.has(wanted) {
            return Err(fail(format!(
                "expected the arrays X and y, found {}; it is no TissueNet of version 1.0 or 1.1 ({})",
                archive.names().join(", "),
                Kind::Tissuenet.home()
            )));
        }
    }
    let version = version_of(&path).or_else(|| {
        let of = |key, version: &str| archive.has(key).then(|| version.to_owned());
        of("meta", "1.1").or_else(|| of("tissue_list", "1.0"))
    });
    if let Some(found) = version.as_deref().filter(|found| !VERSIONS.contains(found)) {
        return Err(fail(format!(
            "expected version 1.0 or 1.1 of TissueNet, found {found}"
        )));
    }
    let count = check_shapes(&archive).map_err(fail)?;
    let facts = Facts::read(&archive, count).map_err(fail)?;
    let mut places: Vec<usize> = (0..count).collect();
    for (what, values, wanted) in [
        ("tissue", &facts.tissues, &wish.tissue),
        ("platform", &facts.platforms, &wish.platform),
    ] {
        let Some(wanted) = wanted else { continue };
        let values = values.as_ref().ok_or_else(|| {
            fail(format!(
                "this archive does not say which {what} an image is of; its arrays are {}{}",
                archive.names().join(", "),
                facts.columns()
            ))
        })?;
        let hits = matching(what, values, wanted).map_err(fail)?;
        places.retain(|&place| hits[place]);
    }
    if places.is_empty() {
        return Err(fail(
            "no image is both of that tissue and of that platform".into(),
        ));
    }
    Ok(Dataset {
        kind: Kind::Tissuenet,
        version,
        split: Some(split),
        channels: vec!["nuclear", "membrane"],
        pixel_size: facts.pixel_size(&places),
        files: vec![path.clone()],
        notes: Vec::new(),
        names: places
            .iter()
            .map(|&place| facts.name(split, place))
            .collect(),
        source: Box::new(TissueNet {
            path,
            archive,
            places,
            labels: usize::from(wish.compartment == Some(Compartment::Nuclear)),
        }),
    })
}

/// The number of images, where X and y fit together.
fn check_shapes(archive: &Archive) -> std::result::Result<usize, String> {
    let (x, y) = (archive.shape("X")?, archive.shape("y")?);
    match (x.as_slice(), y.as_slice()) {
        (&[n, h, w, 2], &[m, k, v, 2]) if (n, h, w) == (m, k, v) && n * h * w > 0 => Ok(n),
        _ => Err(format!(
            "expected X and y of one shape (images, rows, columns, 2), found {x:?} and {y:?}"
        )),
    }
}

/// What is said about each image.
#[derive(Default)]
struct Facts {
    header: Vec<String>,
    tissues: Option<Vec<String>>,
    platforms: Option<Vec<String>>,
    pixel_sizes: Option<Vec<f64>>,
}

impl Facts {
    /// Of `tissue_list` and `platform_list` (1.0), or of the table `meta` (1.1), whose first row names its columns; 1.1's
    /// test split repeats that row, which counts for nothing.
    fn read(archive: &Archive, count: usize) -> std::result::Result<Self, String> {
        let fits = |name: &str, found: usize| match found == count {
            true => Ok(()),
            false => Err(format!(
                "{name} tells of {found} images, but there are {count}"
            )),
        };
        let mut facts = Self::default();
        for (name, list) in [
            ("tissue_list", &mut facts.tissues),
            ("platform_list", &mut facts.platforms),
        ] {
            if archive.has(name) {
                let (_, texts) = archive.texts(name)?;
                fits(name, texts.len())?;
                *list = Some(texts);
            }
        }
        if archive.has("meta") {
            let (shape, texts) = archive.texts("meta")?;
            let &[_, columns @ (1..)] = shape.as_slice() else {
                return Err(format!(
                    "expected meta to be a table, found shape {shape:?}"
                ));
            };
            let mut rows = texts.chunks_exact(columns);
            facts.header = rows.next().unwrap_or_default().to_vec();
            let rows: Vec<&[String]> = rows.filter(|row| *row != facts.header).collect();
            fits("meta", rows.len())?;
            let column = |names: &[&str]| -> Option<Vec<String>> {
                let is = |text: &String| names.contains(&text.to_lowercase().as_str());
                let at = facts.header.iter().position(is)?;
                Some(rows.iter().map(|row| row[at].clone()).collect())
            };
            let tissues = column(&["specimen", "tissue", "tissue_type"]);
            let platforms = column(&["platform", "platform_type"]);
            let sizes = column(&["pixel_size"]);
            facts.tissues = facts.tissues.or(tissues);
            facts.platforms = facts.platforms.or(platforms);
            facts.pixel_sizes = sizes.map(|sizes| {
                sizes
                    .iter()
                    .map(|size| size.parse().unwrap_or(f64::NAN))
                    .collect()
            });
        }
        Ok(facts)
    }

    /// `; meta has the columns ...`, for a message.
    fn columns(&self) -> String {
        if self.header.is_empty() {
            return String::new();
        }
        format!("; meta has the columns {}", self.header.join(", "))
    }

    /// The size that all of these images have.
    fn pixel_size(&self, places: &[usize]) -> Option<f64> {
        let sizes = self.pixel_sizes.as_ref()?;
        let first = *sizes.get(*places.first()?)?;
        let same = places.iter().all(|&place| sizes[place] == first);
        (same && first > 0. && first.is_finite()).then_some(first)
    }

    /// `Breast_CODEX_00012`, as in Cellpose's copy of it; with the split where nothing is known.
    fn name(&self, split: Split, place: usize) -> String {
        let of = |list: &Option<Vec<String>>| {
            let text = list.as_ref().and_then(|list| list.get(place));
            text.map(|text| plain_name(text))
                .filter(|text| !text.is_empty())
        };
        let mut parts: Vec<String> = [of(&self.tissues), of(&self.platforms)]
            .into_iter()
            .flatten()
            .collect();
        if parts.is_empty() {
            parts.push(split.name().to_owned());
        }
        format!("{}_{place:05}", parts.join("_"))
    }
}

struct TissueNet {
    path: PathBuf,
    archive: Archive,
    /// Where the images of the list lie in the archive.
    places: Vec<usize>,
    /// 0 whole cells, 1 nuclei.
    labels: usize,
}

impl Source for TissueNet {
    fn visit(
        &self,
        chosen: &[usize],
        take: &mut dyn FnMut(usize, Result<Sample>) -> Result<()>,
    ) -> Result<()> {
        let fail = |reason: String| Error::read(&self.path, reason);
        let mut ended = Ok(());
        let streamed = self.archive.with("X", |images| {
            self.archive.with("y", |labels| {
                for &place in chosen {
                    let Some(&at) = self.places.get(place) else {
                        continue;
                    };
                    let (x, y) = (images.read(at)?, labels.read(at)?);
                    let sample = sample(x, &y, self.labels)
                        .map_err(|reason| Error::read(&self.path, format!("image {at}: {reason}")));
                    ended = take(place, sample);
                    if ended.is_err() {
                        break;
                    }
                }
                Ok(())
            })
        });
        ended?;
        streamed.map_err(fail)
    }
}

/// An image of `x` (rows, columns, channels) and the labels in channel `of` of `y`.
fn sample(x: Item, y: &Item, of: usize) -> std::result::Result<Sample, String> {
    let wrong = || {
        format!(
            "expected (rows, columns, 2), found {:?} and {:?}",
            x.shape, y.shape
        )
    };
    let &[height, width, channels] = x.shape.as_slice() else {
        return Err(wrong());
    };
    if y.shape != x.shape || channels != 2 {
        return Err(wrong());
    }
    let at = |row: usize, column: usize, channel: usize| (row * width + column) * 2 + channel;
    let pixels = Array3::from_shape_fn((2, height, width), |(channel, row, column)| {
        x.values[at(row, column, channel)] as f32
    });
    let numbers = Array2::from_shape_fn((height, width), |(row, column)| {
        y.values[at(row, column, of)]
    });
    Ok(Sample {
        image: Image::new(pixels, PixelType::Float).map_err(|error| error.to_string())?,
        labels: labels(numbers)?,
        left_out: LeftOut::default(),
    })
}

/// Labels of whole numbers that are not negative.
pub(super) fn labels(numbers: Array2<f64>) -> std::result::Result<Labels, String> {
    super::super::label_files::from_numbers(numbers.insert_axis(ndarray::Axis(0)))
}
