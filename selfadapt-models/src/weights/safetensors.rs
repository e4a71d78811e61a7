//! Safetensors files: named tensors behind a JSON header, with free text by key.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use candle_core::DType;
use safetensors::tensor::{Dtype, TensorView};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;

use super::{Layout, Weights, bytes};

/// The metadata key under which [`write`] keeps the [`Layout`], since the format orders tensors itself.
const LAYOUT: &str = "selfadapt.layout";

/// Whether the first bytes of a file are those of a safetensors file: a length, then a JSON object.
pub fn looks_like(head: &[u8]) -> bool {
    head.split_first_chunk::<8>().is_some_and(|(length, rest)| {
        u64::from_le_bytes(*length) < (1 << 32) && rest.starts_with(b"{")
    })
}

/// Reads every tensor and the metadata. Files of ours come in the order in which they were written, others
/// in the order of their bytes.
///
/// # Errors
/// If the file is not whole, or holds numbers that have no type of ours (complex, 8-bit floats).
pub fn read(path: impl AsRef<Path>) -> Result<Weights> {
    let path = path.as_ref();
    let data = std::fs::read(path).map_err(|error| Error::read(path, error))?;
    parse(&data)
        .map_err(|reason| Error::read(path, format!("not a whole safetensors file: {reason}")))
}

fn parse(data: &[u8]) -> Result<Weights, String> {
    let complain = |error: safetensors::SafeTensorError| error.to_string();
    let (_, header) = safetensors::SafeTensors::read_metadata(data).map_err(complain)?;
    let file = safetensors::SafeTensors::deserialize(data).map_err(complain)?;
    let mut metadata: BTreeMap<String, String> = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    let layout = match metadata.remove(LAYOUT) {
        Some(text) => serde_json::from_str(&text).map_err(|error| format!("{LAYOUT}: {error}"))?,
        None => Layout {
            order: header.offset_keys(),
            module_versions: Vec::new(),
        },
    };
    if layout.order.len() != file.len() {
        return Err(format!(
            "{} tensors, and {} in the order given by {LAYOUT}",
            file.len(),
            layout.order.len()
        ));
    }
    let mut tensors = Vec::with_capacity(file.len());
    for name in &layout.order {
        let view = file.tensor(name).map_err(complain)?;
        let (dtype, bytes) = numbers(&view).map_err(|reason| format!("{name}: {reason}"))?;
        let tensor = bytes::to_tensor(&bytes, dtype, view.shape())
            .map_err(|error| format!("{name}: {error}"))?;
        tensors.push((name.clone(), tensor));
    }
    Ok(Weights {
        tensors,
        layout,
        metadata,
    })
}

/// The numbers of a tensor in a type of ours: `bool` becomes u8, `int8` i16.
fn numbers<'a>(view: &TensorView<'a>) -> Result<(DType, Cow<'a, [u8]>), String> {
    let dtype = match view.dtype() {
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::U8 | Dtype::BOOL => DType::U8,
        Dtype::I8 => {
            let widened = view
                .data()
                .iter()
                .flat_map(|&byte| i16::from(byte as i8).to_le_bytes());
            return Ok((DType::I16, Cow::Owned(widened.collect())));
        }
        other => return Err(format!("numbers of type {other:?} cannot be read")),
    };
    Ok((dtype, Cow::Borrowed(view.data())))
}

/// Where a tensor lies, as the header says it.
#[derive(serde::Serialize)]
struct Entry<'a> {
    dtype: &'static str,
    shape: &'a [usize],
    data_offsets: [usize; 2],
}

/// Writes tensors, metadata and layout. The same weights give the same bytes; the file appears whole or not
/// at all.
///
/// # Errors
/// If the file cannot be written, a tensor's number type has no counterpart, or a metadata key is ours.
pub fn write(path: impl AsRef<Path>, weights: &Weights) -> Result<()> {
    let path = path.as_ref();
    let failed = |error: &dyn std::fmt::Display| Error::write(path, error);
    if weights.metadata.contains_key(LAYOUT) {
        return Err(failed(&format!("the metadata key {LAYOUT} is taken")));
    }
    let layout = Layout {
        order: weights.names().map(str::to_owned).collect(),
        module_versions: weights.layout.module_versions.clone(),
    };
    let mut metadata = weights.metadata.clone();
    metadata.insert(
        LAYOUT.to_owned(),
        serde_json::to_string(&layout).map_err(|error| failed(&error))?,
    );
    // Wide numbers first, so that each tensor is aligned to its own width.
    let mut tensors: Vec<_> = weights.tensors.iter().collect();
    tensors.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype().size_in_bytes()));
    let mut header = serde_json::Map::new();
    let json = |value: serde_json::Result<serde_json::Value>| value.map_err(|error| failed(&error));
    header.insert(
        "__metadata__".into(),
        json(serde_json::to_value(&metadata))?,
    );
    let mut offset = 0;
    for (name, tensor) in &tensors {
        let end = offset + tensor.elem_count() * tensor.dtype().size_in_bytes();
        let entry = Entry {
            dtype: dtype_name(tensor.dtype())
                .map_err(|reason| failed(&format!("{name}: {reason}")))?,
            shape: tensor.dims(),
            data_offsets: [offset, end],
        };
        let entry = json(serde_json::to_value(entry))?;
        if header.insert(name.clone(), entry).is_some() {
            return Err(failed(&format!("{name} occurs twice")));
        }
        offset = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|error| failed(&error))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    atomic::write(path, |sink| {
        let mut put = |bytes: &[u8]| sink.write_all(bytes).map_err(|error| failed(&error));
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        for (_, tensor) in &tensors {
            put(&bytes::of_tensor(tensor)?)?;
        }
        Ok(())
    })
}

fn dtype_name(dtype: DType) -> Result<&'static str, String> {
    Ok(match dtype {
        DType::F16 => "F16",
        DType::BF16 => "BF16",
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::U32 => "U32",
        DType::U8 => "U8",
        other => {
            return Err(format!(
                "numbers of type {other:?} have no counterpart in safetensors"
            ));
        }
    })
}
