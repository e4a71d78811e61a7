//! LIVECell (Edlund et al., Nature Methods 2021): phase contrast images of eight cell lines, COCO annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::choose::{choose_split, matching, missing, plain_name};
use super::files::{Files, name, stem};
use super::{Dataset, Kind, LeftOut, Sample, Source, Split, Wish, coco, overlaps};
use crate::error::{Error, Result};
use crate::io::{self, Axes};

/// Whether a folder holds annotations of it.
pub(super) fn fits(files: &Files) -> bool {
    Split::ALL
        .iter()
        .any(|&split| !whole(files, split).is_empty() || !single(files, split).is_empty())
}

/// `livecell_coco_test.json`.
fn whole(files: &Files, split: Split) -> Vec<&Path> {
    let wanted = format!("livecell_coco_{}.json", split.name());
    files.named(|name| name.eq_ignore_ascii_case(&wanted))
}

/// `LIVECell_single_cells/a172/test.json`.
fn single(files: &Files, split: Split) -> Vec<&Path> {
    let wanted = format!("{}.json", split.name());
    let mut found = files.named(|name| name == wanted);
    found.retain(|path| {
        let folders: Vec<String> = path
            .components()
            .map(|part| part.as_os_str().to_string_lossy().to_lowercase())
            .collect();
        folders.iter().any(|folder| folder.contains("single_cells"))
    });
    found
}

/// The annotations of a split: those of all cell types, else the one for the cell type that is wanted.
fn annotations<'a>(files: &'a Files, split: Split, wish: &Wish) -> Result<&'a Path> {
    let (all, single) = (whole(files, split), single(files, split));
    let several = |found: &[&Path]| {
        let listed: Vec<String> = found
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        Error::Setting(format!(
            "several annotations of the split {}: {}; name the folder of one of them or a cell type",
            split.name(),
            listed.join(", ")
        ))
    };
    match (all.as_slice(), single.as_slice()) {
        (&[only], _) | (&[], &[only]) => Ok(only),
        (&[], &[]) => Err(missing(Kind::Livecell, files, "no annotations")),
        (&[], many) => {
            let types: Vec<String> = many
                .iter()
                .map(|path| path.parent().map(name).unwrap_or_default())
                .collect();
            let wanted = wish.cell_type.as_deref().ok_or_else(|| several(many))?;
            let fits = matching("cell type", &types, wanted)
                .map_err(|reason| Error::read(files.root(), reason))?;
            let hits: Vec<&Path> = many
                .iter()
                .zip(fits)
                .filter_map(|(path, fits)| fits.then_some(*path))
                .collect();
            match hits.as_slice() {
                &[only] => Ok(only),
                hits => Err(several(hits)),
            }
        }
        (many, _) => Err(several(many)),
    }
}

/// The cell type is the beginning of a file's name: `A172_Phase_C7_1_02d16h00m_2.tif`.
fn cell_type(file: &str) -> String {
    file.split('_').next().unwrap_or(file).to_owned()
}

/// Opens a split.
pub(super) fn open(files: &Files, wish: &Wish) -> Result<Dataset> {
    let there: Vec<Split> = Split::ALL
        .into_iter()
        .filter(|&split| !whole(files, split).is_empty() || !single(files, split).is_empty())
        .collect();
    let split = choose_split(Kind::Livecell, files, &there, wish.split)?;
    let path = annotations(files, split, wish)?;
    let mut listed = coco::images(path)?;
    if listed.is_empty() {
        return Err(Error::read(path, "the annotations list no image"));
    }
    if let Some(wanted) = &wish.cell_type {
        let types: Vec<String> = listed
            .iter()
            .map(|(image, _)| cell_type(&name(Path::new(&image.file_name))))
            .collect();
        let mut fits = matching("cell type", &types, wanted)
            .map_err(|reason| Error::read(path, reason))?
            .into_iter();
        listed.retain(|_| fits.next().unwrap_or(false));
    }
    let (images, notes) = find(files, path, listed, wish.skip_unpaired)?;
    Ok(Dataset {
        kind: Kind::Livecell,
        version: Some("2021".into()),
        split: Some(split),
        channels: vec!["phase contrast"],
        pixel_size: None,
        files: vec![path.to_owned()],
        notes,
        names: images
            .iter()
            .map(|image| plain_name(&stem(&image.path)))
            .collect(),
        source: Box::new(LiveCell {
            annotations: path.to_owned(),
            images,
        }),
    })
}

/// An image of the list, and where its file lies.
struct Listed {
    id: i64,
    size: (u32, u32),
    path: PathBuf,
}

/// Finds the files of the listed images.
fn find(
    files: &Files,
    annotations: &Path,
    listed: Vec<(coco::CocoImage, usize)>,
    skip: bool,
) -> Result<(Vec<Listed>, Vec<String>)> {
    let mut places: BTreeMap<String, &Path> = BTreeMap::new();
    for path in files
        .ending("tif")
        .chain(files.ending("tiff"))
        .chain(files.ending("png"))
    {
        places.entry(name(path)).or_insert(path);
    }
    let (count, mut images, mut lost, mut notes) =
        (listed.len(), Vec::new(), Vec::new(), Vec::new());
    let mut bare = 0;
    let mut taken: BTreeSet<&Path> = BTreeSet::new();
    for (image, masks) in listed {
        let file = name(Path::new(&image.file_name));
        let Some(&path) = places.get(&file) else {
            lost.push(file);
            continue;
        };
        if !taken.insert(path) {
            return Err(Error::read(
                annotations,
                format!("the image {file} is listed twice"),
            ));
        }
        bare += usize::from(masks == 0);
        images.push(Listed {
            id: image.id,
            size: (image.height, image.width),
            path: path.to_owned(),
        });
    }
    if let Some(first) = lost.first() {
        let what = format!(
            "{} of {count} images have no file, for example {first}",
            lost.len()
        );
        let archive = files.named(|name| name == "images.zip");
        if images.is_empty() || !skip {
            let hint = match archive.first() {
                Some(archive) => format!("unpack {}", archive.display()),
                None => {
                    "unpack images.zip of the same site into the same folder, or take what is there with --skip-unpaired"
                        .into()
                }
            };
            return Err(missing(Kind::Livecell, files, &format!("{what} ({hint})")));
        }
        notes.push(format!("left out: {what}"));
    }
    if images.len() > 1 && bare == images.len() {
        return Err(Error::read(
            annotations,
            format!(
                "expected annotations of {bare} images, found none: the list annotations is empty"
            ),
        ));
    }
    if bare > 0 {
        notes.push(format!(
            "{bare} of {} images have no annotation, so no cell",
            images.len()
        ));
    }
    Ok((images, notes))
}

struct LiveCell {
    annotations: PathBuf,
    images: Vec<Listed>,
}

impl Source for LiveCell {
    fn visit(
        &self,
        chosen: &[usize],
        take: &mut dyn FnMut(usize, Result<Sample>) -> Result<()>,
    ) -> Result<()> {
        let wanted = chosen
            .iter()
            .filter_map(|&place| self.images.get(place))
            .map(|image| (image.id, image.size))
            .collect();
        let mut masks = coco::masks(&self.annotations, &wanted)?;
        for &place in chosen {
            if let Some(image) = self.images.get(place) {
                let of = masks.remove(&image.id).unwrap_or_default();
                take(place, read(image, &of))?;
            }
        }
        Ok(())
    }
}

fn read(listed: &Listed, of: &coco::Masks) -> Result<Sample> {
    let (image, _) = io::read(&listed.path, &Axes::default())?;
    let size = (listed.size.0 as usize, listed.size.1 as usize);
    if image.size() != size {
        return Err(Error::read(
            &listed.path,
            format!(
                "expected {size:?} pixels (height, width) as the annotations say, found {:?}",
                image.size()
            ),
        ));
    }
    let (labels, covered) = overlaps::paint(size, &of.masks);
    Ok(Sample {
        image,
        labels,
        left_out: LeftOut {
            crowds: of.crowds,
            empty: of.empty,
            covered,
        },
    })
}
