//! Writes values as a pickle of protocol 4, which Python 3.4 and later and NumPy 1 and 2 read.

use std::io::{Result, Write};

use super::super::sample::Dtype;

/// A value to be pickled.
pub(crate) enum Item<'a> {
    Int(i64),
    Float(f64),
    Text(&'a str),
    List(Vec<Item<'a>>),
    Dict(Vec<(&'static str, Item<'a>)>),
    /// Row-major numbers in little-endian bytes.
    Array {
        dtype: Dtype,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    },
}

/// Writes `item` as the only element of an object array without axes, as `np.save` does with a dict.
///
/// # Errors
/// If `out` fails.
pub(crate) fn object_array(out: &mut impl Write, item: &Item<'_>) -> Result<()> {
    out.write_all(b"\x80\x04")?;
    reconstruct(out, &[], "O8", "|", (-1, 63))?;
    out.write_all(b"]")?;
    value(out, item)?;
    // APPEND, TUPLE of the state, BUILD, STOP.
    out.write_all(b"atb.")
}

fn value(out: &mut impl Write, item: &Item<'_>) -> Result<()> {
    match item {
        Item::Int(value) => integer(out, *value),
        Item::Float(value) => {
            out.write_all(b"G")?;
            out.write_all(&value.to_be_bytes())
        }
        Item::Text(value) => text(out, value),
        Item::List(items) => {
            out.write_all(b"](")?;
            items.iter().try_for_each(|item| value(out, item))?;
            out.write_all(b"e")
        }
        Item::Dict(items) => {
            out.write_all(b"}(")?;
            for (key, item) in items {
                text(out, key)?;
                value(out, item)?;
            }
            out.write_all(b"u")
        }
        Item::Array {
            dtype,
            shape,
            bytes,
        } => {
            let (code, order) = match dtype {
                Dtype::Bool => ("b1", "|"),
                Dtype::U8 => ("u1", "|"),
                Dtype::I8 => ("i1", "|"),
                Dtype::U16 => ("u2", "<"),
                Dtype::I16 => ("i2", "<"),
                Dtype::U32 => ("u4", "<"),
                Dtype::I32 => ("i4", "<"),
                Dtype::U64 => ("u8", "<"),
                Dtype::I64 => ("i8", "<"),
                Dtype::F16 => ("f2", "<"),
                Dtype::F32 => ("f4", "<"),
                Dtype::F64 => ("f8", "<"),
            };
            reconstruct(out, shape, code, order, (-1, 0))?;
            out.write_all(b"\x8e")?;
            out.write_all(&(bytes.len() as u64).to_le_bytes())?;
            out.write_all(bytes)?;
            out.write_all(b"tb")
        }
    }
}

/// An empty array and the beginning of its state, up to the data: the caller adds data, `t` and `b`.
fn reconstruct(
    out: &mut impl Write,
    shape: &[usize],
    code: &str,
    order: &str,
    (size, flags): (i64, i64),
) -> Result<()> {
    // `numpy.core` is known to NumPy 1 and 2, `numpy._core` to NumPy 2 alone.
    out.write_all(
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(",
    )?;
    shape
        .iter()
        .try_for_each(|&axis| integer(out, axis as i64))?;
    out.write_all(b"tcnumpy\ndtype\n")?;
    text(out, code)?;
    out.write_all(b"\x89\x88\x87R(K\x03")?;
    text(out, order)?;
    out.write_all(b"NNN")?;
    integer(out, size)?;
    integer(out, size)?;
    integer(out, flags)?;
    out.write_all(b"tb\x89")
}

fn integer(out: &mut impl Write, value: i64) -> Result<()> {
    match i32::try_from(value) {
        Ok(value) => {
            out.write_all(b"J")?;
            out.write_all(&value.to_le_bytes())
        }
        Err(_) => {
            out.write_all(b"\x8a\x08")?;
            out.write_all(&value.to_le_bytes())
        }
    }
}

fn text(out: &mut impl Write, value: &str) -> Result<()> {
    out.write_all(b"X")?;
    let length = u32::try_from(value.len())
        .map_err(|_| std::io::Error::other("a text of more than 4 GiB"))?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(value.as_bytes())
}
