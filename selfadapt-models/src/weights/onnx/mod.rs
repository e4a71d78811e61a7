//! ONNX files: initialisers and nodes of a graph read, and new numbers put into a copy of it.
//!
//! Only what a model's weights need is read, straight from the wire format (`onnx.proto` of ONNX 1.17); everything
//! else of a file is carried along as it stands. Nothing in a file is executed.

mod wire;

use candle_core::{DType, Tensor};

use super::bytes;
use wire::{Field, Fields, Value, put_bytes};

/// Field numbers of `ModelProto`, `GraphProto`, `TensorProto`, `NodeProto`, `AttributeProto`, `ValueInfoProto`.
mod field {
    pub const MODEL_GRAPH: u64 = 7;
    pub const GRAPH_NODE: u64 = 1;
    pub const GRAPH_INITIALIZER: u64 = 5;
    pub const GRAPH_INPUT: u64 = 11;
    pub const GRAPH_OUTPUT: u64 = 12;
    pub const TENSOR_DIMS: u64 = 1;
    pub const TENSOR_TYPE: u64 = 2;
    pub const TENSOR_FLOATS: u64 = 4;
    pub const TENSOR_NAME: u64 = 8;
    pub const TENSOR_RAW: u64 = 9;
    pub const TENSOR_LOCATION: u64 = 14;
    pub const NODE_INPUT: u64 = 1;
    pub const NODE_OUTPUT: u64 = 2;
    pub const NODE_OP: u64 = 4;
    pub const NODE_ATTRIBUTE: u64 = 5;
    pub const ATTRIBUTE_NAME: u64 = 1;
    pub const ATTRIBUTE_INTS: u64 = 8;
    pub const VALUE_NAME: u64 = 1;
    pub const VALUE_TYPE: u64 = 2;
    pub const TYPE_TENSOR: u64 = 1;
    pub const TENSOR_TYPE_SHAPE: u64 = 2;
    pub const SHAPE_DIM: u64 = 1;
    pub const DIM_VALUE: u64 = 1;
}

/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// Whether the first bytes of a file look like an ONNX model: an IR version, then another field of a model.
pub fn looks_like(head: &[u8]) -> bool {
    // producer_name, producer_version, domain, model_version, doc_string, graph, opset_import.
    const NEXT: [u8; 7] = [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42];
    matches!(head, [0x08, 1..=40, next, ..] if NEXT.contains(next))
}

/// The parts of a graph that a model's weights need; borrows the file's bytes.
#[derive(Debug, Default)]
pub struct Graph<'a> {
    /// Constant tensors, in the file's order.
    pub initializers: Vec<Initializer<'a>>,
    /// Operations, in the file's order.
    pub nodes: Vec<Node<'a>>,
    /// The graph's inputs.
    pub inputs: Vec<Input<'a>>,
    /// Names of the graph's outputs.
    pub outputs: Vec<&'a str>,
}

/// A constant tensor of a graph.
#[derive(Debug, Default)]
pub struct Initializer<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: Vec<usize>,
    data_type: u64,
    /// The numbers in one piece of little-endian bytes, if they are stored so.
    raw: Option<&'a [u8]>,
    /// The numbers as floats, if they are stored so.
    floats: Vec<u8>,
    external: bool,
}

/// What a graph is given.
#[derive(Debug, Default)]
pub struct Input<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its sides; none where a side may be anything.
    pub shape: Vec<Option<usize>>,
}

/// An operation of a graph.
#[derive(Debug, Default)]
pub struct Node<'a> {
    /// `Conv`, `Relu`, ...
    pub op: &'a str,
    /// Names of what it reads.
    pub inputs: Vec<&'a str>,
    /// Names of what it writes.
    pub outputs: Vec<&'a str>,
    /// Attributes that are lists of whole numbers (`strides`, `pads`, ...).
    pub integers: Vec<(&'a str, Vec<i64>)>,
}

impl Initializer<'_> {
    /// Its numbers.
    ///
    /// # Errors
    /// If they are not f32, lie in another file, or do not fill the shape.
    pub fn tensor(&self) -> Result<Tensor, String> {
        let failed = |reason: &dyn std::fmt::Display| format!("{}: {reason}", self.name);
        if self.external {
            return Err(failed(
                &"its numbers lie in another file; save the model as one file (`onnx.save(model, path)`)",
            ));
        }
        if self.data_type != FLOAT {
            return Err(failed(&format!(
                "expected 32-bit floats (ONNX type {FLOAT}), found type {}",
                self.data_type
            )));
        }
        let numbers = self.raw.unwrap_or(&self.floats);
        bytes::to_tensor(numbers, DType::F32, &self.shape).map_err(|error| failed(&error))
    }
}

impl<'a> Graph<'a> {
    /// Reads the graph of a model.
    ///
    /// # Errors
    /// If the bytes are not a whole ONNX model.
    pub fn parse(model: &'a [u8]) -> Result<Self, String> {
        let mut found = None;
        for field in Fields::of(model) {
            let field = field?;
            if field.number == field::MODEL_GRAPH {
                found = Some(field.bytes()?);
            }
        }
        let graph = found.ok_or("there is no graph in it")?;
        let mut parsed = Self::default();
        for field in Fields::of(graph) {
            let field = field?;
            match field.number {
                field::GRAPH_NODE => parsed.nodes.push(node(field.bytes()?)?),
                field::GRAPH_INITIALIZER => {
                    parsed.initializers.push(initializer(field.bytes()?)?);
                }
                field::GRAPH_INPUT => parsed.inputs.push(input(field.bytes()?)?),
                field::GRAPH_OUTPUT => parsed.outputs.push(input(field.bytes()?)?.name),
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn initializer(message: &[u8]) -> Result<Initializer<'_>, String> {
    let mut found = Initializer::default();
    let mut shape = Vec::new();
    for field in Fields::of(message) {
        let field = field?;
        match (field.number, field.value) {
            (field::TENSOR_DIMS, _) => field.integers(&mut shape)?,
            (field::TENSOR_TYPE, Value::Varint(data_type)) => found.data_type = data_type,
            (field::TENSOR_FLOATS, Value::Bytes(part) | Value::Fixed(part)) => {
                found.floats.extend_from_slice(part);
            }
            (field::TENSOR_NAME, _) => found.name = field.text()?,
            (field::TENSOR_RAW, _) => found.raw = Some(field.bytes()?),
            (field::TENSOR_LOCATION, Value::Varint(place)) => found.external = place != 0,
            _ => {}
        }
    }
    found.shape = shape
        .iter()
        .map(|&side| usize::try_from(side))
        .collect::<Result<_, _>>()
        .map_err(|_| format!("{}: a tensor of shape {shape:?}", found.name))?;
    Ok(found)
}

fn node(message: &[u8]) -> Result<Node<'_>, String> {
    let mut found = Node::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            field::NODE_INPUT => found.inputs.push(field.text()?),
            field::NODE_OUTPUT => found.outputs.push(field.text()?),
            field::NODE_OP => found.op = field.text()?,
            field::NODE_ATTRIBUTE => {
                let (mut name, mut integers) = ("", Vec::new());
                for field in Fields::of(field.bytes()?) {
                    let field = field?;
                    match field.number {
                        field::ATTRIBUTE_NAME => name = field.text()?,
                        field::ATTRIBUTE_INTS => field.integers(&mut integers)?,
                        _ => {}
                    }
                }
                if !integers.is_empty() {
                    found.integers.push((name, integers));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn input(message: &[u8]) -> Result<Input<'_>, String> {
    let mut found = Input::default();
    for field in Fields::of(message) {
        let field = field?;
        match field.number {
            field::VALUE_NAME => found.name = field.text()?,
            field::VALUE_TYPE => {
                let shape = inside(
                    field.bytes()?,
                    &[field::TYPE_TENSOR, field::TENSOR_TYPE_SHAPE],
                )?;
                for dim in Fields::of(shape) {
                    let dim = dim?;
                    if dim.number == field::SHAPE_DIM {
                        found.shape.push(side(dim.bytes()?)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// The message that one leads to through fields of messages; empty where one of them is absent.
fn inside<'a>(mut message: &'a [u8], path: &[u64]) -> Result<&'a [u8], String> {
    for &number in path {
        let mut found: &[u8] = &[];
        for field in Fields::of(message) {
            let field = field?;
            if field.number == number {
                found = field.bytes()?;
            }
        }
        message = found;
    }
    Ok(message)
}

fn side(dim: &[u8]) -> Result<Option<usize>, String> {
    for field in Fields::of(dim) {
        let field = field?;
        if let (field::DIM_VALUE, Value::Varint(side)) = (field.number, field.value) {
            return Ok(usize::try_from(side).ok());
        }
    }
    Ok(None)
}

/// A copy of a model without the numbers of the initialisers that `emptied` names.
///
/// # Errors
/// If the bytes are not a whole ONNX model.
pub fn skeleton(model: &[u8], emptied: impl Fn(&str) -> bool) -> Result<Vec<u8>, String> {
    rewritten(model, |tensor| {
        if !emptied(initializer(tensor)?.name) {
            return Ok(None);
        }
        let mut copy = Vec::new();
        for field in Fields::of(tensor) {
            let field = field?;
            if !matches!(field.number, field::TENSOR_RAW | field::TENSOR_FLOATS) {
                copy.extend_from_slice(field.whole);
            }
        }
        Ok(Some(copy))
    })
}

/// A copy of a model with the numbers that `tensor` gives by name in the initialisers' places.
///
/// # Errors
/// If the bytes are not a whole ONNX model, or a tensor has another shape than the initialiser.
pub fn filled(model: &[u8], tensor: impl Fn(&str) -> Option<Tensor>) -> Result<Vec<u8>, String> {
    rewritten(model, |message| {
        let known = initializer(message)?;
        let Some(new) = tensor(known.name) else {
            return Ok(None);
        };
        if new.dims() != known.shape || known.data_type != FLOAT {
            return Err(format!(
                "{}: expected 32-bit floats {:?}, found {:?}",
                known.name,
                known.shape,
                new.dims()
            ));
        }
        let numbers = bytes::of_tensor(&new).map_err(|error| error.to_string())?;
        let mut copy = Vec::with_capacity(message.len() + numbers.len());
        let mut rest = Fields::of(message).peekable();
        let before = |field: &Result<Field, String>| {
            field
                .as_ref()
                .is_ok_and(|field| field.number < field::TENSOR_RAW)
        };
        // In the order of the numbers of fields, as ONNX itself writes them.
        while let Some(field) = rest.next_if(before) {
            let field = field?;
            if field.number != field::TENSOR_FLOATS {
                copy.extend_from_slice(field.whole);
            }
        }
        put_bytes(&mut copy, field::TENSOR_RAW, &numbers);
        for field in rest {
            let field = field?;
            if !matches!(field.number, field::TENSOR_RAW | field::TENSOR_FLOATS) {
                copy.extend_from_slice(field.whole);
            }
        }
        Ok(Some(copy))
    })
}

/// A copy of a model in which `change` replaces initialisers (`TensorProto`) or leaves them as they are.
fn rewritten(
    model: &[u8],
    change: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, String>,
) -> Result<Vec<u8>, String> {
    let mut copy = Vec::new();
    for field in Fields::of(model) {
        let field = field?;
        if field.number != field::MODEL_GRAPH {
            copy.extend_from_slice(field.whole);
            continue;
        }
        let mut graph = Vec::new();
        for field in Fields::of(field.bytes()?) {
            let field = field?;
            let changed = match field.number {
                field::GRAPH_INITIALIZER => change(field.bytes()?)?,
                _ => None,
            };
            match changed {
                Some(tensor) => put_bytes(&mut graph, field::GRAPH_INITIALIZER, &tensor),
                None => graph.extend_from_slice(field.whole),
            }
        }
        put_bytes(&mut copy, field::MODEL_GRAPH, &graph);
    }
    Ok(copy)
}
