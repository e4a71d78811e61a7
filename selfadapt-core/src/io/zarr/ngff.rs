//! What an OME-Zarr group says of itself: NGFF 0.4 in `.zattrs`, 0.5 in `zarr.json`.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::super::axes::Axis;
use super::metadata::{ArrayInfo, version2, version3};

/// Bytes beyond which metadata are refused.
const MOST_BYTES: u64 = 16 << 20;

/// The array of full size of an image, and what its axes are.
#[derive(Debug)]
pub(super) struct Found {
    pub folder: PathBuf,
    pub info: ArrayInfo,
    pub axes: Vec<Axis>,
    pub origin: &'static str,
}

/// Finds the first and largest dataset of the first multiscale image; a bare array is taken as it is.
///
/// # Errors
/// A sentence, if the folder is neither.
pub(super) fn find(folder: &Path) -> Result<Found, String> {
    let three = json(&folder.join("zarr.json"))?;
    if let Some(three) = &three
        && three.get("node_type").and_then(Value::as_str) == Some("array")
    {
        return bare(folder, version3(three)?);
    }
    if let Some(two) = json(&folder.join(".zarray"))? {
        return bare(folder, version2(&two)?);
    }
    let attributes = match &three {
        Some(three) => three.get("attributes").cloned(),
        None => json(&folder.join(".zattrs"))?,
    };
    let attributes = attributes.ok_or(
        "expected an OME-Zarr image: a folder with zarr.json, .zattrs or .zarray, found none of them",
    )?;
    // From 0.5 on what is of OME stands under a key of its own.
    let ome = attributes.get("ome").unwrap_or(&attributes);
    let image = ome.get("multiscales").and_then(|images| images.get(0));
    let image = image.ok_or_else(|| {
        let hint = if ome.get("plate").is_some() {
            "it is a plate: name the images in it, PLATE.zarr/ROW/COLUMN/FIELD"
        } else if ome.get("bioformats2raw.layout").is_some() {
            "it was made by bioformats2raw: name the image in it, FILE.zarr/0"
        } else {
            "name the image in it"
        };
        format!("expected an OME-Zarr image with \"multiscales\", found a group without; {hint}")
    })?;
    let path = image
        .get("datasets")
        .and_then(|sets| sets.get(0)?.get("path")?.as_str())
        .ok_or("its \"multiscales\" name no dataset")?;
    let path = Path::new(path);
    if path
        .components()
        .any(|part| !matches!(part, Component::Normal(_)))
    {
        return Err(format!("its dataset {path:?} does not lie in its folder"));
    }
    let array = folder.join(path);
    let info = match (
        json(&array.join("zarr.json"))?,
        json(&array.join(".zarray"))?,
    ) {
        (Some(three), _) => version3(&three),
        (None, Some(two)) => version2(&two),
        (None, None) => Err("neither zarr.json nor .zarray is there".to_owned()),
    };
    let info = info.map_err(|reason| format!("its dataset {}: {reason}", path.display()))?;
    let letters = image
        .get("axes")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let axes: Vec<Axis> = letters
        .iter()
        .map(|axis| {
            // An object in 0.4 and 0.5, a letter in 0.3.
            let name = axis.get("name").unwrap_or(axis).as_str().unwrap_or("?");
            match name {
                "x" => Axis::X,
                "y" => Axis::Y,
                "z" => Axis::Z,
                "c" => Axis::Channel,
                "t" => Axis::Time,
                _ => Axis::Unknown,
            }
        })
        .collect();
    if axes.len() != info.shape.len() {
        return Err(format!(
            "expected an axis for each of {} sizes, found {}",
            info.shape.len(),
            axes.len()
        ));
    }
    Ok(Found {
        folder: array,
        info,
        axes,
        origin: "OME-Zarr",
    })
}

fn bare(folder: &Path, info: ArrayInfo) -> Result<Found, String> {
    Ok(Found {
        folder: folder.to_owned(),
        axes: vec![Axis::Unknown; info.shape.len()],
        info,
        origin: "the array's shape",
    })
}

/// A file of metadata, if it is there.
fn json(path: &Path) -> Result<Option<Value>, String> {
    let Ok(file) = File::open(path) else {
        return Ok(None);
    };
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut text = Vec::new();
    file.take(MOST_BYTES)
        .read_to_end(&mut text)
        .map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| format!("{name}: {error}"))
}
