//! Writing checkpoints that `torch.load(weights_only=True)` opens, also with `mmap=True`.

use std::io::{Seek, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use selfadapt_core::error::{Error, Result};
use selfadapt_core::io::atomic;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::weights::{Weights, bytes};

/// Torch starts each storage at such a multiple, so that it can be mapped into memory.
const ALIGNMENT: u16 = 64;

/// Writes a `state_dict` as `torch.save(model.state_dict(), path)` does: an `OrderedDict` in the order of
/// `weights`, with its module versions as `_metadata`. The file appears whole or not at all.
///
/// # Errors
/// If the file cannot be written, or a tensor's number type has no counterpart in torch.
pub fn write(path: impl AsRef<Path>, weights: &Weights) -> Result<()> {
    let path = path.as_ref();
    atomic::write(path, |sink| {
        let mut archive = ZipWriter::new(sink);
        fill(&mut archive, weights, &|error| Error::write(path, error))?;
        let failed = |error| Error::write(path, error);
        archive.finish().map(drop).map_err(failed)
    })
}

fn fill<W: Write + Seek>(
    archive: &mut ZipWriter<W>,
    weights: &Weights,
    failed: &dyn Fn(&dyn std::fmt::Display) -> Error,
) -> Result<()> {
    let mut put = |name: &str, bytes: &[u8]| {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX))
            .with_alignment(ALIGNMENT);
        archive
            .start_file(format!("archive/{name}"), options)
            .map_err(|error| failed(&error))?;
        archive.write_all(bytes).map_err(|error| failed(&error))
    };
    put("data.pkl", &pickled(weights)?)?;
    put("byteorder", b"little")?;
    for (index, (_, tensor)) in weights.tensors.iter().enumerate() {
        put(&format!("data/{index}"), &bytes::of_tensor(tensor)?)?;
    }
    put("version", b"3\n")
}

/// The `OrderedDict` of tensors, in pickle protocol 2.
fn pickled(weights: &Weights) -> Result<Vec<u8>> {
    let mut pickle = Pickle(vec![0x80, 2]);
    pickle.ordered_dict();
    pickle.op(b'(');
    for (index, (name, tensor)) in weights.tensors.iter().enumerate() {
        pickle.text(name)?;
        pickle.tensor(index, tensor).map_err(|error| match error {
            Error::Weights(reason) => Error::Weights(format!("{name}: {reason}")),
            other => other,
        })?;
    }
    pickle.op(b'u');
    if !weights.layout.module_versions.is_empty() {
        pickle.op(b'}');
        pickle.text("_metadata")?;
        pickle.ordered_dict();
        pickle.op(b'(');
        for (path, version) in &weights.layout.module_versions {
            pickle.text(path)?;
            pickle.op(b'}');
            pickle.text("version")?;
            pickle.int(*version);
            pickle.op(b's');
        }
        for op in [b'u', b's', b'b'] {
            pickle.op(op);
        }
    }
    pickle.op(b'.');
    Ok(pickle.0)
}

/// A pickle being written; each method adds one value.
struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, opcode: u8) {
        self.0.push(opcode);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0
            .extend_from_slice(format!("c{module}\n{name}\n").as_bytes());
    }

    fn ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.0.extend_from_slice(b")R");
    }

    fn text(&mut self, text: &str) -> Result<()> {
        let length = u32::try_from(text.len())
            .map_err(|_| Error::Weights("a name of more than 4 GiB".into()))?;
        self.op(b'X');
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn int(&mut self, value: i64) {
        if let Ok(small) = u8::try_from(value) {
            self.0.extend_from_slice(&[b'K', small]);
        } else if let Ok(medium) = i32::try_from(value) {
            self.op(b'J');
            self.0.extend_from_slice(&medium.to_le_bytes());
        } else {
            self.0.extend_from_slice(&[0x8a, 8]);
            self.0.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn sizes(&mut self, values: impl IntoIterator<Item = usize>) {
        self.op(b'(');
        for value in values {
            // A tensor in memory has fewer than 2^63 elements.
            self.int(value as i64);
        }
        self.op(b't');
    }

    /// `_rebuild_tensor_v2(('storage', class, key, 'cpu', n), 0, shape, strides, False, OrderedDict())`
    fn tensor(&mut self, key: usize, tensor: &Tensor) -> Result<()> {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend_from_slice(b"((");
        self.text("storage")?;
        self.global("torch", storage_class(tensor.dtype())?);
        self.text(&key.to_string())?;
        self.text("cpu")?;
        self.int(tensor.elem_count() as i64);
        self.0.extend_from_slice(b"tQ");
        self.int(0);
        self.sizes(tensor.dims().iter().copied());
        let mut strides: Vec<usize> = (tensor.dims().iter().rev())
            .scan(1, |stride, side| {
                let this = *stride;
                *stride *= side.max(&1);
                Some(this)
            })
            .collect();
        strides.reverse();
        self.sizes(strides);
        self.op(0x89);
        self.ordered_dict();
        self.0.extend_from_slice(b"tR");
        Ok(())
    }
}

fn storage_class(dtype: DType) -> Result<&'static str> {
    Ok(match dtype {
        DType::F32 => "FloatStorage",
        DType::F64 => "DoubleStorage",
        DType::F16 => "HalfStorage",
        DType::BF16 => "BFloat16Storage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::U8 => "ByteStorage",
        other => {
            return Err(Error::Weights(format!(
                "numbers of type {other:?} have no counterpart in a torch checkpoint; convert them first"
            )));
        }
    })
}
