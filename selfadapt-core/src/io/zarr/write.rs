//! Writing OME-Zarr: one image or label image of full size, in chunks of 512 x 512, packed by gzip.

use std::io::Write;
use std::path::{Path, PathBuf};

use ndarray::ArrayView3;
use serde_json::{Value, json};

use super::super::atomic;
use crate::error::{Error, Result};

/// Side of a chunk in pixels.
const CHUNK: usize = 512;

/// The version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ngff {
    /// 0.4, on Zarr 2: what most programs open.
    V04,
    /// 0.5, on Zarr 3.
    V05,
}

/// An array to be: rows follow each other.
struct Plan<'a> {
    version: Ngff,
    /// `[C, H, W]`, or `[H, W]`.
    shape: &'a [usize],
    dtype: [&'static str; 2],
    /// What is said of the group beyond its scales.
    more: Option<(&'static str, Value)>,
}

/// Writes an image `[C, H, W]` of 16 bits as a new folder `path`.
///
/// # Errors
/// If there is something at `path`, no pixel, or the folder cannot be written.
pub fn write_image(
    path: impl AsRef<Path>,
    pixels: ArrayView3<'_, u16>,
    version: Ngff,
) -> Result<()> {
    let (channels, height, width) = pixels.dim();
    let plan = Plan {
        version,
        shape: &[channels, height, width],
        dtype: ["<u2", "uint16"],
        more: None,
    };
    in_new_folder(path.as_ref(), &plan, |folder| {
        for (channel, plane) in pixels.outer_iter().enumerate() {
            for top in (0..height).step_by(CHUNK) {
                for left in (0..width).step_by(CHUNK) {
                    let number = |(y, x): (usize, usize)| match plane.get((top + y, left + x)) {
                        Some(value) => value.to_le_bytes(),
                        None => [0; 2],
                    };
                    let place = [channel, top / CHUNK, left / CHUNK];
                    put(folder, version, &place, &chunk(number))?;
                }
            }
        }
        Ok(())
    })
}

/// Writes labels `[H, W]` of 32 bits as a new folder `path`, an image and label image at once; `next` fills in one row
/// after the other. Memory is that of one row of chunks.
///
/// # Errors
/// If there is something at `path`, no pixel, `next` fails, or the folder cannot be written.
pub fn write_labels(
    path: impl AsRef<Path>,
    (height, width): (usize, usize),
    version: Ngff,
    next: &mut dyn FnMut(usize, &mut [u32]) -> Result<()>,
) -> Result<()> {
    let plan = Plan {
        version,
        shape: &[height, width],
        dtype: ["<u4", "uint32"],
        more: Some(("image-label", json!({"version": name(version)}))),
    };
    in_new_folder(path.as_ref(), &plan, |folder| {
        let mut band = vec![0_u32; CHUNK * width];
        for top in (0..height).step_by(CHUNK) {
            band.fill(0);
            let rows = CHUNK.min(height - top);
            for (row, line) in band.chunks_exact_mut(width).take(rows).enumerate() {
                next(top + row, line)?;
            }
            for left in (0..width).step_by(CHUNK) {
                let number = |(y, x): (usize, usize)| {
                    let inside = left + x < width;
                    let label = inside.then(|| band[y * width + left + x]);
                    label.unwrap_or(0).to_le_bytes()
                };
                put(
                    folder,
                    version,
                    &[top / CHUNK, left / CHUNK],
                    &chunk(number),
                )?;
            }
        }
        Ok(())
    })
}

/// The bytes of a chunk, row by row.
fn chunk<const N: usize>(number: impl Fn((usize, usize)) -> [u8; N]) -> Vec<u8> {
    let places = (0..CHUNK).flat_map(|y| (0..CHUNK).map(move |x| (y, x)));
    places.flat_map(number).collect()
}

fn name(version: Ngff) -> &'static str {
    match version {
        Ngff::V04 => "0.4",
        Ngff::V05 => "0.5",
    }
}

/// Packs and writes a chunk; one of zeros is left out, zero being the fill value.
fn put(folder: &Path, version: Ngff, place: &[usize], bytes: &[u8]) -> Result<()> {
    if bytes.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    let mut path = folder.join("0");
    if version == Ngff::V05 {
        path.push("c");
    }
    for number in place {
        path.push(number.to_string());
    }
    let failed = |error: std::io::Error| Error::write(&path, error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = encoder.write_all(bytes).and_then(|()| encoder.finish());
    std::fs::write(&path, packed.map_err(failed)?).map_err(failed)
}

/// Writes metadata and whatever `fill` writes beside `path`, and gives the whole its name in the end.
fn in_new_folder(
    path: &Path,
    plan: &Plan<'_>,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    if plan.shape.contains(&0) {
        let shape = plan.shape;
        return Err(Error::write(
            path,
            format!("expected pixels, found {shape:?}"),
        ));
    }
    if path.exists() {
        return Err(Error::write(
            path,
            "there is something of that name already; remove it first",
        ));
    }
    let Some(last) = path.file_name() else {
        return Err(Error::write(path, "expected a folder's name, found none"));
    };
    let mut unfinished = std::ffi::OsString::from(".");
    unfinished.push(last);
    unfinished.push(".partial");
    let folder = path.with_file_name(unfinished);
    let failed = |error: std::io::Error| Error::write(path, error);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(failed)?;
    }
    std::fs::create_dir_all(folder.join("0")).map_err(failed)?;
    let written = metadata(&folder, plan).and_then(|()| fill(&folder));
    if let Err(error) = written {
        // What was written is of no use, and the reason matters more than this.
        let _ = std::fs::remove_dir_all(&folder);
        return Err(error);
    }
    std::fs::rename(&folder, path).map_err(failed)
}

fn metadata(folder: &Path, plan: &Plan<'_>) -> Result<()> {
    let with_channels = plan.shape.len() == 3;
    let space = |name: &str| json!({"name": name, "type": "space"});
    let mut axes = vec![space("y"), space("x")];
    let mut chunks = vec![CHUNK, CHUNK];
    if with_channels {
        axes.insert(0, json!({"name": "c", "type": "channel"}));
        chunks.insert(0, 1);
    }
    let scale = json!([{"type": "scale", "scale": vec![1.0; axes.len()]}]);
    let mut image = json!({
        "name": "image",
        "axes": axes,
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    });
    let mut group = json!({});
    match plan.version {
        Ngff::V04 => image["version"] = json!("0.4"),
        Ngff::V05 => group["version"] = json!("0.5"),
    }
    group["multiscales"] = json!([image]);
    if let Some((key, value)) = &plan.more {
        group[*key] = value.clone();
    }
    let put = |name: PathBuf, json: &Value| {
        atomic::write_bytes(folder.join(name), format!("{json:#}\n").as_bytes())
    };
    match plan.version {
        Ngff::V04 => {
            put(".zgroup".into(), &json!({"zarr_format": 2}))?;
            put(".zattrs".into(), &group)?;
            let array = json!({
                "zarr_format": 2, "shape": plan.shape, "chunks": chunks, "dtype": plan.dtype[0], "fill_value": 0,
                "order": "C", "filters": null, "dimension_separator": "/",
                "compressor": {"id": "gzip", "level": 1},
            });
            put(Path::new("0").join(".zarray"), &array)
        }
        Ngff::V05 => {
            let array = json!({
                "zarr_format": 3, "node_type": "array", "shape": plan.shape, "data_type": plan.dtype[1],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": 0, "attributes": {},
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "gzip", "configuration": {"level": 1}},
                ],
            });
            let group = json!({
                "zarr_format": 3, "node_type": "group", "attributes": {"ome": group},
            });
            put("zarr.json".into(), &group)?;
            put(Path::new("0").join("zarr.json"), &array)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{self, Axes};
    use ndarray::Array3;

    #[test]
    fn images_come_back_in_both_versions() {
        let folder = tempfile::tempdir().unwrap();
        let pixels =
            Array3::from_shape_fn((2, 530, 600), |(c, y, x)| (c * 9000 + y * 3 + x) as u16);
        for version in [Ngff::V04, Ngff::V05] {
            let path = folder.path().join(format!("{version:?}.zarr"));
            write_image(&path, pixels.view(), version).unwrap();
            let (image, provenance) = io::read(&path, &Axes::default()).unwrap();
            assert_eq!(image.pixels(), pixels.mapv(f32::from));
            let text = provenance.to_string();
            assert!(text.contains("axes CYX from OME-Zarr"), "{text}");
            let (mut parts, _) = io::open_parts(&path, &Axes::default()).unwrap();
            let part = parts.read(500..520, 505..600).unwrap();
            let expected = |(c, y, x)| f32::from(pixels[[c, 500 + y, 505 + x]]);
            assert_eq!(part, Array3::from_shape_fn((2, 20, 95), expected));
            assert!(write_image(&path, pixels.view(), version).is_err());
        }
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 2);
    }

    #[test]
    fn labels_come_back_and_failures_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zarr");
        for version in [Ngff::V04, Ngff::V05] {
            let mut row = |y: usize, line: &mut [u32]| {
                line.iter_mut()
                    .enumerate()
                    .for_each(|(x, pixel)| *pixel = ((y + x) % 3) as u32 * 70_000);
                Ok(())
            };
            write_labels(&path, (40, 700), version, &mut row).unwrap();
            let labels = io::read_labels(&path).unwrap();
            assert_eq!((labels.size(), labels.count()), ((40, 700), 2));
            assert_eq!(&labels.as_slice()[..4], &[0, 1, 2, 0]);
            std::fs::remove_dir_all(&path).unwrap();
            let mut broken = |_: usize, _: &mut [u32]| Err(Error::Setting("no".into()));
            assert!(write_labels(&path, (4, 4), version, &mut broken).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
