//! What `.zarray` (Zarr 2) and `zarr.json` (Zarr 3) say of an array.

use serde_json::Value;

use super::super::npy::number_type;
use super::super::sample::{Dtype, Endian};

/// Axes beyond which an array is refused; NGFF has at most five.
const MOST_AXES: usize = 8;
/// Bytes beyond which a chunk is refused.
const LARGEST_CHUNK: usize = 1 << 29;

/// An array: its shape, and how its chunks are found and unpacked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ArrayInfo {
    pub shape: Vec<usize>,
    /// Shape of what is unpacked at once.
    pub chunk: Vec<usize>,
    /// Shape of what is a file: a chunk, or several of them in a shard.
    pub file: Vec<usize>,
    pub is_sharded: bool,
    /// The index of a shard stands at its end, and ends in a checksum.
    pub index: ShardIndex,
    pub dtype: Dtype,
    pub endian: Endian,
    pub fill: f64,
    /// What to undo, last first.
    pub codecs: Vec<Codec>,
    /// What comes before the numbers of a chunk in its name, and between them.
    pub prefix: &'static str,
    pub separator: char,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ShardIndex {
    pub is_first: bool,
    pub has_checksum: bool,
}

/// A way of packing bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Blosc,
    Gzip,
    Zlib,
    Zstd,
    /// Four bytes behind the others.
    Crc32c,
}

/// Zarr 2.
pub(super) fn version2(json: &Value) -> Result<ArrayInfo, String> {
    let name = json.get("dtype").and_then(Value::as_str).unwrap_or("?");
    let Some(Some((dtype, endian))) = number_type(name) else {
        return Err(format!("expected numbers, found the type {name}"));
    };
    if json.get("order").and_then(Value::as_str).unwrap_or("C") != "C" {
        return Err("its chunks are column-major (order F); save it with order C".to_owned());
    }
    if json
        .get("filters")
        .is_some_and(|filters| !filters.is_null() && filters != &Value::Array(vec![]))
    {
        return Err(
            "its chunks went through filters, which are not read; save it without".to_owned(),
        );
    }
    let codecs = match json.get("compressor") {
        None | Some(Value::Null) => Vec::new(),
        Some(compressor) => {
            let id = compressor.get("id").and_then(Value::as_str);
            vec![codec(id.unwrap_or("?"))?]
        }
    };
    let separator = json.get("dimension_separator").and_then(Value::as_str);
    let shape = sizes(json.get("shape"), "shape")?;
    let chunk = sizes(json.get("chunks"), "chunks")?;
    checked(ArrayInfo {
        shape,
        file: chunk.clone(),
        chunk,
        is_sharded: false,
        index: ShardIndex::default(),
        dtype,
        endian,
        fill: fill(json),
        codecs,
        prefix: "",
        separator: if separator == Some("/") { '/' } else { '.' },
    })
}

/// Zarr 3.
pub(super) fn version3(json: &Value) -> Result<ArrayInfo, String> {
    let text = |json: &Value, key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    let configuration = |json: &Value| json.get("configuration").cloned().unwrap_or_default();
    let name = text(json, "data_type").unwrap_or_default();
    let dtype = match name.as_str() {
        "bool" => Dtype::Bool,
        "uint8" => Dtype::U8,
        "uint16" => Dtype::U16,
        "uint32" => Dtype::U32,
        "uint64" => Dtype::U64,
        "int8" => Dtype::I8,
        "int16" => Dtype::I16,
        "int32" => Dtype::I32,
        "int64" => Dtype::I64,
        "float16" => Dtype::F16,
        "float32" => Dtype::F32,
        "float64" => Dtype::F64,
        other => return Err(format!("expected numbers, found the type {other:?}")),
    };
    let grid = json.get("chunk_grid").cloned().unwrap_or_default();
    if text(&grid, "name").as_deref() != Some("regular") {
        return Err("expected a regular chunk grid, found another".to_owned());
    }
    let file = sizes(configuration(&grid).get("chunk_shape"), "chunk_shape")?;
    let keys = json.get("chunk_key_encoding").cloned().unwrap_or_default();
    let given = text(&configuration(&keys), "separator");
    let (prefix, usual) = match text(&keys, "name").as_deref() {
        Some("v2") => ("", '.'),
        Some("default") => ("c", '/'),
        _ => return Err("the names of its chunks have an unknown form".to_owned()),
    };
    let separator = given.and_then(|text| text.chars().next()).unwrap_or(usual);
    if !matches!(separator, '/' | '.') {
        return Err(format!(
            "expected / or . in the names of chunks, found {separator:?}"
        ));
    }
    let mut codecs: Vec<Value> = json
        .get("codecs")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let (mut chunk, mut is_sharded, mut index) = (file.clone(), false, ShardIndex::default());
    if let [only] = codecs.as_slice()
        && text(only, "name").as_deref() == Some("sharding_indexed")
    {
        let inner = configuration(only);
        chunk = sizes(inner.get("chunk_shape"), "chunk_shape")?;
        let packing = |key: &str| {
            inner
                .get(key)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let (_, of_index) = chain(&packing("index_codecs"))?;
        index = ShardIndex {
            is_first: text(&inner, "index_location").as_deref() == Some("start"),
            has_checksum: match of_index.as_slice() {
                [] => false,
                [Codec::Crc32c] => true,
                _ => {
                    return Err(
                        "the index of its shards is compressed, which is not read".to_owned()
                    );
                }
            },
        };
        (codecs, is_sharded) = (packing("codecs"), true);
    }
    let (endian, codecs) = chain(&codecs)?;
    checked(ArrayInfo {
        shape: sizes(json.get("shape"), "shape")?,
        chunk,
        file,
        is_sharded,
        index,
        dtype,
        endian,
        fill: fill(json),
        codecs,
        prefix,
        separator,
    })
}

/// The byte order of `bytes`, and what packs those.
fn chain(codecs: &[Value]) -> Result<(Endian, Vec<Codec>), String> {
    let mut endian = None;
    let mut packing = Vec::new();
    for json in codecs {
        let name = json.get("name").and_then(Value::as_str).unwrap_or("?");
        let is_big = json
            .get("configuration")
            .and_then(|c| c.get("endian"))
            .and_then(Value::as_str)
            == Some("big");
        match (name, endian) {
            ("bytes", None) => {
                endian = Some(if is_big { Endian::Big } else { Endian::Little });
            }
            (name, Some(_)) => packing.push(codec(name)?),
            (name, None) => {
                return Err(format!(
                    "its chunks went through {name:?} before they became bytes, which is not read; save it without"
                ));
            }
        }
    }
    Ok((endian.ok_or("there is no codec \"bytes\"")?, packing))
}

fn codec(name: &str) -> Result<Codec, String> {
    Ok(match name {
        "blosc" => Codec::Blosc,
        "gzip" => Codec::Gzip,
        "zlib" | "numcodecs.zlib" => Codec::Zlib,
        "zstd" | "numcodecs.zstd" => Codec::Zstd,
        "crc32c" => Codec::Crc32c,
        other => {
            return Err(format!(
                "expected chunks packed by blosc, gzip, zlib or zstd, found {other:?}; save it anew with one of them"
            ));
        }
    })
}

fn sizes(json: Option<&Value>, key: &str) -> Result<Vec<usize>, String> {
    let numbers = json.and_then(Value::as_array).map(Vec::as_slice);
    let sizes: Option<Vec<usize>> = numbers
        .unwrap_or_default()
        .iter()
        .map(|n| n.as_u64().and_then(|n| usize::try_from(n).ok()))
        .collect();
    let sizes = sizes.filter(|sizes| (1..=MOST_AXES).contains(&sizes.len()));
    sizes.ok_or_else(|| format!("{key}: expected 1 to {MOST_AXES} sizes"))
}

fn fill(json: &Value) -> f64 {
    match json.get("fill_value") {
        Some(Value::Number(number)) => number.as_f64().unwrap_or(0.),
        Some(Value::Bool(true)) => 1.,
        Some(Value::String(text)) => match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => 0.,
        },
        _ => 0.,
    }
}

fn checked(info: ArrayInfo) -> Result<ArrayInfo, String> {
    let axes = info.shape.len();
    if info.chunk.len() != axes
        || info.file.len() != axes
        || info.file.contains(&0)
        || info.chunk.contains(&0)
    {
        return Err(format!(
            "chunks of {:?} do not suit an array of {:?}",
            info.chunk, info.shape
        ));
    }
    let whole = info
        .file
        .iter()
        .zip(&info.chunk)
        .all(|(file, chunk)| file.is_multiple_of(*chunk));
    if !whole {
        return Err(format!(
            "shards of {:?} do not hold whole chunks of {:?}",
            info.file, info.chunk
        ));
    }
    let product = |sizes: &[usize]| {
        sizes
            .iter()
            .try_fold(1_usize, |n, &size| n.checked_mul(size))
    };
    let bytes = product(&info.chunk).and_then(|n| n.checked_mul(info.dtype.size()));
    if bytes.is_none_or(|bytes| bytes > LARGEST_CHUNK) {
        return Err(format!(
            "chunks of {:?} are too large to be unpacked at once; save it with smaller ones",
            info.chunk
        ));
    }
    let parts: Vec<usize> = info
        .file
        .iter()
        .zip(&info.chunk)
        .map(|(f, c)| f / c)
        .collect();
    if product(&parts).is_none_or(|parts| parts > 1 << 20) {
        return Err(format!(
            "shards of {:?} hold more than a million chunks",
            info.file
        ));
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_versions_say_the_same() {
        let two = json!({"zarr_format": 2, "shape": [3, 40, 50], "chunks": [1, 16, 16], "dtype": "<u2", "order": "C",
            "fill_value": 7, "filters": null, "dimension_separator": "/", "compressor": {"id": "blosc", "cname": "lz4"}});
        let three = json!({"zarr_format": 3, "node_type": "array", "shape": [3, 40, 50], "data_type": "uint16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 16, 16]}},
            "chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/"}}, "fill_value": 7,
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "blosc"}]});
        assert_eq!(version2(&two).unwrap(), version3(&three).unwrap());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let usual = json!({"shape": [40, 50], "chunks": [16, 16], "dtype": "<u2", "order": "C"});
        assert!(version2(&usual).is_ok());
        for (key, value, reason) in [
            ("compressor", json!({"id": "lzma"}), "lzma"),
            ("order", json!("F"), "order C"),
            ("dtype", json!("<c8"), "<c8"),
            ("filters", json!([{"id": "delta"}]), "filters"),
            ("chunks", json!([16]), "do not suit"),
            ("chunks", json!([0, 16]), "do not suit"),
            ("chunks", json!([1u64 << 40, 1u64 << 40]), "too large"),
            ("shape", json!([-1, 3]), "shape"),
            ("shape", json!([]), "shape"),
        ] {
            let mut changed = usual.clone();
            changed[key] = value;
            let error = version2(&changed).unwrap_err();
            assert!(error.contains(reason), "{key}: {error}");
        }
    }
}
