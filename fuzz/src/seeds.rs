//! Where fuzzing starts: the fixtures of the tests, and files of our own writers.

use std::io::{Error, Read, Result};
use std::path::{Path, PathBuf};

use ndarray::{Array2, Array3};
use selfadapt_core::io::{npy, png, seg, tiff};
use selfadapt_core::labels::Labels;

/// Fixtures above this many bytes are left out: small files are changed faster.
const LARGEST: u64 = 6000;

/// The seeds of a reader.
///
/// # Errors
/// If a fixture cannot be read, or a seed not be written.
pub fn of(name: &str) -> Result<Vec<Vec<u8>>> {
    let mut seeds = match name {
        "torch" => fixtures("weights", &["pt"])?,
        "torch-pickle" => pickles()?,
        "size-model" => fixtures("weights", &["npy"])?,
        "tiff" => fixtures("images", &["tif"])?,
        "png" => fixtures("images", &["png"])?,
        "jpeg" => fixtures("images", &["jpg"])?,
        "npy" | "npz-array" | "seg" => fixtures("images", &["npy"])?,
        "npz" => fixtures("images", &["npz"])?,
        "ome-xml" => vec![
            br#"<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels BigEndian="false" DimensionOrder="XYCZT" SizeC="3" SizeT="1" SizeX="2" SizeY="2" SizeZ="1" Type="uint8"><Channel ID="Channel:0:0" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1" FirstC="0"/><TiffData IFD="1" FirstC="1"><UUID>a</UUID></TiffData></Pixels></Image></OME>"#.to_vec(),
            b"ImageJ=1.53\nimages=3\nchannels=3\nslices=1\nframes=1\nhyperstack=true\n".to_vec(),
            br#"{"shape": [3, 2, 2], "axes": "CYX"}"#.to_vec(),
        ],
        "zarr" => crate::fuzz_readers::zarr_files()?
            .into_iter()
            .zip(0..=u8::MAX)
            .map(|((_, bytes), place)| [vec![place], bytes].concat())
            .collect(),
        "onnx" => {
            let model = std::fs::read(folder("../golden/mesmer.onnx"))?;
            let small = selfadapt_models::weights::onnx::skeleton(&model, |_| true);
            vec![small.map_err(Error::other)?]
        }
        "coco" => annotations(),
        // Runs of an image of 24 x 32 pixels: all background, one run, and two.
        "coco-runs" => vec![b"Ph0".to_vec(), b"9>Yg0".to_vec(), b"9>>EZf0".to_vec()],
        "tissuenet-meta" => vec![TABLE.to_vec()],
        "run-folder" => vec![
            br#"{"model":"cellpose","nbase":[2,32,64,128,256]}"#.to_vec(),
            br#"{"model":"stardist"}"#.to_vec(),
        ],
        _ => Vec::new(),
    };
    seeds.extend(written(name)?);
    Ok(seeds)
}

/// The table of two images as NumPy 2 pickles it, with the header of a `.npy` file.
const TABLE: &[u8] = include_bytes!("../../tests/fixtures/datasets/meta.npy");

/// COCO files with every form that a mask may have.
fn annotations() -> Vec<Vec<u8>> {
    let masks = [
        "[[2.5,1,12.25,3,9,14.5],[20,20,24,20,24,24]]",
        "{\"size\":[24,32],\"counts\":[9,14,745]}",
        "{\"size\":[24,32],\"counts\":\"9>Yg0\"}",
        "[]",
        "null",
        "[-40,-40,70,10,5,90]",
    ];
    let objects: Vec<String> = masks
        .iter()
        .enumerate()
        .map(|(id, mask)| {
            format!(
                "{{\"segmentation\":{mask},\"area\":1,\"iscrowd\":0,\"image_id\":1,\"id\":{id}}}"
            )
        })
        .collect();
    let list = objects.join(",");
    let image = "{\"id\":1,\"width\":32,\"height\":24,\"file_name\":\"a/A172_1.tif\"}";
    [
        format!(
            "{{\"info\":{{}},\"images\":[{image}],\"annotations\":[{list}],\"categories\":[]}}"
        ),
        format!(
            "{{\"annotations\":{{\"7\":{}}},\"images\":[{image}]}}",
            objects[1]
        ),
    ]
    .map(String::into_bytes)
    .to_vec()
}

/// Files of our own writers.
fn written(name: &str) -> Result<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir()?;
    let at = |file: &str| folder.path().join(file);
    let pixels = Array3::from_shape_fn((2, 9, 7), |(c, y, x)| (c * 300 + y * 7 + x) as u16);
    let plane = Array2::from_shape_fn((9, 7), |(y, x)| (y * 7 + x) as u16);
    let failed = |error: selfadapt_core::error::Error| Error::other(error.to_string());
    let path = match name {
        "tiff" => at("a.tif"),
        "png" => at("a.png"),
        "npy" | "npz-array" => at("a.npy"),
        "seg" => at("a_seg.npy"),
        "hdf5" => at("a.h5"),
        "safetensors" | "snapshot" => at("a.safetensors"),
        _ => return Ok(Vec::new()),
    };
    match name {
        "tiff" => tiff::write(&path, pixels.view()).map_err(failed)?,
        "png" => png::write_gray16(&path, plane.view()).map_err(failed)?,
        "npy" | "npz-array" => npy::write(&path, &pixels).map_err(failed)?,
        "seg" => {
            let labels = plane.iter().map(|&v| u32::from(v) % 4).collect();
            let labels = Labels::from_rows(9, 7, labels).map_err(failed)?;
            let segmentation = seg::Segmentation {
                labels: &labels,
                flows: None,
                image: Path::new("a.tif"),
                diameter: 30.,
                channels: [0, 0],
            };
            seg::write(&path, &segmentation).map_err(failed)?;
        }
        "hdf5" => {
            let tensor = ramp(&[3, 2])?;
            let layer = selfadapt_models::weights::hdf5::KerasLayer {
                name: "conv2d".to_owned(),
                arrays: vec![("kernel", tensor)],
            };
            selfadapt_models::weights::hdf5::write_keras(&path, &[layer]).map_err(failed)?;
        }
        _ => {
            let mut weights = selfadapt_models::weights::Weights::default();
            weights
                .tensors
                .push(("a.weight".to_owned(), ramp(&[2, 3])?));
            if name == "snapshot" {
                let config = br#"{"model":"cellpose","nbase":[2,2,2,2,2]}"#;
                let config = String::from_utf8_lossy(config).into_owned();
                weights
                    .metadata
                    .insert("selfadapt.config".to_owned(), config);
            }
            selfadapt_models::weights::safetensors::write(&path, &weights).map_err(failed)?;
        }
    }
    Ok(vec![std::fs::read(path)?])
}

fn ramp(shape: &[usize]) -> Result<candle_core::Tensor> {
    let count: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..count).map(|i| i as f32).collect();
    candle_core::Tensor::from_vec(numbers, shape, &candle_core::Device::Cpu).map_err(Error::other)
}

fn folder(name: &str) -> PathBuf {
    // This file is also part of the workspace's tests, whose manifest lies beside this one's folder as well.
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

fn fixtures(name: &str, extensions: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder(name))? {
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if extensions.contains(&extension) && entry.metadata()?.len() <= LARGEST {
            paths.push(path);
        }
    }
    paths.sort();
    paths.into_iter().map(std::fs::read).collect()
}

/// The pickles inside the torch fixtures.
fn pickles() -> Result<Vec<Vec<u8>>> {
    let mut pickles = Vec::new();
    for bytes in fixtures("weights", &["pt"])? {
        let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(bytes)) else {
            continue;
        };
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).map_err(Error::other)?;
            if entry.name().is_ok_and(|name| name.ends_with("data.pkl")) {
                let mut pickle = Vec::new();
                entry.read_to_end(&mut pickle)?;
                pickles.push(pickle);
            }
        }
    }
    Ok(pickles)
}
