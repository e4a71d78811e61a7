//! HDF5 files of Keras: arrays of numbers by their path, read as they are and written as Keras 2 and 3 read them.

use std::path::Path;

use candle_core::{Device, Tensor};
use hdf5_pure::{AttrValue, DType, File, FileBuilder, Group};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;

use super::bytes::elements;

/// Groups within groups beyond which a file is refused; Keras needs four.
const DEEPEST: usize = 16;
/// Arrays beyond which a file is refused.
const MOST_ARRAYS: usize = 100_000;
/// Numbers in one array for each byte of the file beyond which it is refused: deflate packs 1032 to 1.
const MOST_PER_BYTE: u64 = 1032;

/// Whether the first bytes of a file are those of an HDF5 file.
pub fn looks_like(head: &[u8]) -> bool {
    head.starts_with(b"\x89HDF\r\n\x1a\n")
}

/// Every array of floating-point numbers of a file, as f32, by its path (`conv2d/conv2d/kernel:0`), in the order
/// of paths. Other arrays are left out.
///
/// # Errors
/// If the bytes are not a whole HDF5 file.
pub fn parse(bytes: Vec<u8>) -> Result<Vec<(String, Tensor)>, String> {
    let whole = |error: hdf5_pure::Error| format!("not a whole HDF5 file: {error}");
    let most = bytes.len() as u64 * MOST_PER_BYTE;
    let file = File::from_bytes(bytes).map_err(whole)?;
    let mut arrays = Vec::new();
    collect(&file.root(), "", 0, most, &mut arrays)
        .map_err(|reason| format!("not a whole HDF5 file: {reason}"))?;
    arrays.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(arrays)
}

/// As [`parse`], from a file.
///
/// # Errors
/// If the file cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<(String, Tensor)>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::read(path, error))?;
    parse(bytes).map_err(|reason| Error::read(path, reason))
}

fn collect(
    group: &Group,
    path: &str,
    depth: usize,
    most: u64,
    arrays: &mut Vec<(String, Tensor)>,
) -> Result<(), String> {
    let here = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}/{name}")
        }
    };
    let failed = |name: &str, error: &dyn std::fmt::Display| match here(name).trim_matches('/') {
        "" => error.to_string(),
        place => format!("{place}: {error}"),
    };
    if depth > DEEPEST {
        return Err(format!("{path}: more than {DEEPEST} groups within groups"));
    }
    for name in group.datasets().map_err(|e| failed("", &e))? {
        let array = group.dataset(&name).map_err(|e| failed(&name, &e))?;
        if !matches!(
            array.dtype().map_err(|e| failed(&name, &e))?,
            DType::F32 | DType::F64
        ) {
            continue;
        }
        let shape = array.shape().map_err(|e| failed(&name, &e))?;
        let sides: Option<Vec<usize>> = shape.iter().map(|&side| side.try_into().ok()).collect();
        let sides =
            sides.filter(|sides| elements(sides).is_some_and(|numbers| numbers as u64 <= most));
        let Some(shape) = sides else {
            return Err(failed(
                &name,
                &format!("a file of this size cannot hold an array {shape:?}"),
            ));
        };
        if arrays.len() == MOST_ARRAYS {
            return Err(format!("more than {MOST_ARRAYS} arrays"));
        }
        let numbers = array.read_f32().map_err(|e| failed(&name, &e))?;
        let tensor =
            Tensor::from_vec(numbers, shape, &Device::Cpu).map_err(|e| failed(&name, &e))?;
        arrays.push((here(&name), tensor));
    }
    for name in group.groups().map_err(|e| failed("", &e))? {
        let inner = group.group(&name).map_err(|e| failed(&name, &e))?;
        collect(&inner, &here(&name), depth + 1, most, arrays)?;
    }
    Ok(())
}

/// One layer of a Keras model: its name, and its arrays as Keras calls them (`kernel`, `bias`, ...).
#[derive(Clone, Debug)]
pub struct KerasLayer {
    /// The layer's name.
    pub name: String,
    /// Arrays in Keras' order and layout, f32.
    pub arrays: Vec<(&'static str, Tensor)>,
}

/// Writes layers, in the order of the model, as `save_weights` of Keras 2 does; Keras 2 and 3 load such a file by
/// that order. The file appears whole or not at all.
///
/// # Errors
/// If it cannot be written.
pub fn write_keras(path: impl AsRef<Path>, layers: &[KerasLayer]) -> Result<()> {
    let path = path.as_ref();
    let mut file = FileBuilder::new();
    let names = layers.iter().map(|layer| layer.name.clone()).collect();
    file.set_attr("layer_names", AttrValue::AsciiStringArray(names));
    for (name, value) in [("backend", "tensorflow"), ("keras_version", "2.15.0")] {
        file.set_attr(name, AttrValue::AsciiString(value.to_owned()));
    }
    for layer in layers {
        let mut outer = file.create_group(&layer.name);
        let mut inner = outer.create_group(&layer.name);
        let mut names = Vec::new();
        for (name, tensor) in &layer.arrays {
            let name = format!("{name}:0");
            let shape: Vec<u64> = tensor.dims().iter().map(|&side| side as u64).collect();
            let numbers = tensor.flatten_all()?.to_vec1::<f32>()?;
            let array = inner.create_dataset(&name);
            array.with_f32_data(&numbers).with_shape(&shape);
            names.push(format!("{}/{name}", layer.name));
        }
        outer.set_attr("weight_names", AttrValue::AsciiStringArray(names));
        outer.add_group(inner.finish());
        file.add_group(outer.finish());
    }
    let bytes = file.finish().map_err(|error| Error::write(path, error))?;
    atomic::write_bytes(path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Vec<KerasLayer> {
        let ramp = |shape: &[usize]| {
            let numbers: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|i| i as f32 - 3.5)
                .collect();
            Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
        };
        let layer = |name: &str, outputs| KerasLayer {
            name: name.to_owned(),
            arrays: vec![
                ("kernel", ramp(&[3, 3, 2, outputs])),
                ("bias", ramp(&[outputs])),
            ],
        };
        vec![layer("conv2d", 4), layer("down_level_0_no_0", 1)]
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.h5");
        write_keras(&path, &layers()).unwrap();
        let arrays = read(&path).unwrap();
        let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "conv2d/conv2d/bias:0",
                "conv2d/conv2d/kernel:0",
                "down_level_0_no_0/down_level_0_no_0/bias:0",
                "down_level_0_no_0/down_level_0_no_0/kernel:0",
            ]
        );
        assert_eq!(arrays[1].1.dims(), [3, 3, 2, 4]);
        let numbers: Vec<f32> = arrays[1].1.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!((numbers[0], numbers[71]), (-3.5, 67.5));
    }

    /// A reader must survive any file: half of one, and one with any byte changed.
    #[test]
    fn damaged_files_are_errors_or_other_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.h5");
        write_keras(&path, &layers()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(looks_like(&bytes) && !looks_like(&bytes[1..]));
        for length in (0..bytes.len()).step_by(7) {
            assert!(parse(bytes[..length].to_vec()).is_err(), "{length}");
        }
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= change;
                // Either is fine, as long as it comes back.
                drop(parse(bytes));
            }
        }
    }
}
