//! Numbers inside `.npy` files that hold a pickled Python object, of both numpy 1 and numpy 2.

use super::pickle::{self, Graph, Id, Node};

/// The pickle inside a `.npy` file of a single object (shape `()`, type `O`), as `np.save(path, {...})` writes it.
///
/// # Errors
/// A sentence: not an npy file, an array of plain numbers, or a pickle of anything beyond arrays and numbers.
pub(super) fn object(bytes: &[u8]) -> Result<(Graph, Id), String> {
    let expected = || "expected a .npy file of one pickled dict, found something else".to_owned();
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(expected)?;
    let ([major, _], rest) = rest.split_first_chunk().ok_or_else(expected)?;
    let (length, rest) = match major {
        1 => rest
            .split_first_chunk()
            .map(|(length, rest)| (u16::from_le_bytes(*length).into(), rest)),
        2 | 3 => rest
            .split_first_chunk()
            .map(|(length, rest)| (u32::from_le_bytes(*length) as usize, rest)),
        _ => None,
    }
    .ok_or_else(expected)?;
    let (header, pickled) = rest.split_at_checked(length).ok_or_else(expected)?;
    let header = String::from_utf8_lossy(header);
    if !header.contains("'descr': '|O'") || !header.contains("'shape': ()") {
        return Err(format!(
            "expected one pickled dict, found an array with the header {}",
            header.trim()
        ));
    }
    let graph = pickle::parse(pickled, is_allowed)?;
    let object = match array(&graph, graph.root)?.data {
        Data::Objects([object]) => *object,
        _ => return Err(expected()),
    };
    Ok((graph, object))
}

fn is_allowed(global: &str) -> bool {
    matches!(global, "numpy.ndarray" | "numpy.dtype") || is_reconstruct(global) || is_scalar(global)
}

fn is_reconstruct(global: &str) -> bool {
    matches!(
        global,
        "numpy.core.multiarray._reconstruct" | "numpy._core.multiarray._reconstruct"
    )
}

fn is_scalar(global: &str) -> bool {
    matches!(
        global,
        "numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar"
    )
}

/// The numbers of an array in row-major order, of a numpy scalar, or of a Python number.
///
/// # Errors
/// A sentence: what was found instead of numbers.
pub(super) fn numbers(graph: &Graph, id: Id) -> Result<Vec<f64>, String> {
    match graph.node(id) {
        Node::Float(value) => return Ok(vec![*value]),
        Node::Int(value) => return Ok(vec![*value as f64]),
        _ => {}
    }
    if let Some((name, [dtype, data])) = graph.call(id)
        && is_scalar(name)
    {
        let data = graph.bytes(*data).ok_or("a numpy scalar without bytes")?;
        return Dtype::of(graph, *dtype)?.decode(data, 1);
    }
    let array = array(graph, id)?;
    let Data::Numbers(data) = array.data else {
        return Err("an array of Python objects where numbers were expected".into());
    };
    let long_sides = array.shape.iter().filter(|&&side| side != 1).count();
    if array.fortran && long_sides > 1 {
        return Err(format!(
            "an array of shape {:?} in column-major order; save it with np.ascontiguousarray",
            array.shape
        ));
    }
    let count = array
        .shape
        .iter()
        .try_fold(1usize, |n, &side| n.checked_mul(side));
    let count = count.ok_or("an array beyond any memory")?;
    array.dtype.decode(data, count)
}

/// A pickled `ndarray`.
struct Array<'a> {
    shape: Vec<usize>,
    dtype: Dtype,
    fortran: bool,
    data: Data<'a>,
}

enum Data<'a> {
    Numbers(&'a [u8]),
    Objects(&'a [Id]),
}

/// `_reconstruct(ndarray, (0,), b'b')` with the state `(1, shape, dtype, fortran, data)`.
fn array(graph: &Graph, id: Id) -> Result<Array<'_>, String> {
    let made = graph.call(id).is_some_and(|(name, _)| is_reconstruct(name));
    let state = graph.state(id).and_then(|state| graph.sequence(state));
    let Some([_, shape, dtype, fortran, data]) = state.filter(|_| made) else {
        return Err(format!(
            "{} where numbers were expected",
            graph.describe(id)
        ));
    };
    let dtype = Dtype::of(graph, *dtype)?;
    let data = if dtype == Dtype::Object {
        graph.sequence(*data).map(Data::Objects)
    } else {
        graph.bytes(*data).map(Data::Numbers)
    };
    match (graph.sizes(*shape), graph.node(*fortran), data) {
        (Some(shape), Node::Bool(fortran), Some(data)) => Ok(Array {
            shape,
            dtype,
            fortran: *fortran,
            data,
        }),
        _ => Err("a malformed numpy array".into()),
    }
}

/// How numpy stores a number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Dtype {
    Object,
    Number { code: [u8; 2], big_endian: bool },
}

impl Dtype {
    /// `dtype('f8', False, True)` with the state `(3, '<', ...)`.
    fn of(graph: &Graph, id: Id) -> Result<Self, String> {
        let code = match graph.call(id) {
            Some(("numpy.dtype", [code, ..])) => graph.text(*code),
            _ => None,
        };
        let state = graph.state(id).and_then(|state| graph.sequence(state));
        let order = state
            .and_then(|state| state.get(1))
            .and_then(|&order| graph.text(order));
        match code.map(str::as_bytes) {
            Some([b'O', ..]) => Ok(Self::Object),
            Some(&[kind, size]) if b"fiub".contains(&kind) && b"1248".contains(&size) => {
                Ok(Self::Number {
                    code: [kind, size],
                    big_endian: order == Some(">"),
                })
            }
            _ => Err(format!(
                "numbers of the numpy type {}, expected floats or integers",
                code.unwrap_or("?")
            )),
        }
    }

    fn decode(self, data: &[u8], count: usize) -> Result<Vec<f64>, String> {
        let Self::Number { code, big_endian } = self else {
            return Err("a Python object where a number was expected".into());
        };
        let width = usize::from(code[1] - b'0');
        if count.checked_mul(width) != Some(data.len()) {
            return Err(format!(
                "an array of {count} numbers of {width} bytes with {} bytes",
                data.len()
            ));
        }
        let one = |chunk: &[u8]| {
            let mut bytes = chunk.to_vec();
            if big_endian {
                bytes.reverse();
            }
            number(code, &bytes)
        };
        let values: Option<Vec<f64>> = data.chunks_exact(width.max(1)).map(one).collect();
        values.ok_or_else(|| {
            format!(
                "numbers of the numpy type {}, expected floats or integers",
                String::from_utf8_lossy(&code)
            )
        })
    }
}

/// One little-endian number.
fn number(code: [u8; 2], bytes: &[u8]) -> Option<f64> {
    Some(match &code {
        b"f2" => half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64(),
        b"f4" => f32::from_le_bytes(bytes.try_into().ok()?).into(),
        b"f8" => f64::from_le_bytes(bytes.try_into().ok()?),
        b"i1" => i8::from_le_bytes(bytes.try_into().ok()?).into(),
        b"i2" => i16::from_le_bytes(bytes.try_into().ok()?).into(),
        b"i4" => i32::from_le_bytes(bytes.try_into().ok()?).into(),
        b"i8" => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
        b"u1" | b"b1" => u8::from_le_bytes(bytes.try_into().ok()?).into(),
        b"u2" => u16::from_le_bytes(bytes.try_into().ok()?).into(),
        b"u4" => u32::from_le_bytes(bytes.try_into().ok()?).into(),
        b"u8" => u64::from_le_bytes(bytes.try_into().ok()?) as f64,
        _ => return None,
    })
}
