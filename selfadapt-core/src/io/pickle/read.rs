//! Reads a pickle into a tree of values; calls in it are recorded, never made.

use std::borrow::Cow;
use std::ops::Range;

use super::super::npy::number_type;
use super::super::sample::{Dtype, Endian};
use super::machine::Machine;

/// Index of a value in a [`Pickle`].
pub(crate) type Id = usize;

/// A value of a pickle. Bytes are a range of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Range<usize>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `module name` of a function or class.
    Global(String),
    /// The result of a call that was not made, with the state that was to be given to it.
    Object {
        callable: Id,
        arguments: Id,
        state: Option<Id>,
    },
}

/// All values of a pickle, and which is the outermost.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    top: Id,
}

/// A NumPy array inside a pickle.
#[derive(Debug)]
pub(crate) struct PickledArray<'a> {
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub endian: Endian,
    pub fortran_order: bool,
    pub data: Cow<'a, [u8]>,
}

impl<'a> Pickle<'a> {
    /// Reads protocols 2 to 5.
    ///
    /// # Errors
    /// A sentence, if the stream is cut off or holds an instruction that NumPy does not write.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine::new(bytes);
        let top = machine.run()?;
        Ok(Self {
            bytes,
            values: machine.values,
            top,
        })
    }

    pub fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    /// The outermost value; the single element of an object array stands for it.
    pub fn root(&self) -> Id {
        match self
            .state_of_array(self.top)
            .map(|state| self.value(state[4]))
        {
            Some(Value::List(items)) if items.len() == 1 => items[0],
            _ => self.top,
        }
    }

    /// The shape and the elements, row-major, of an array of objects, which the pickle must be.
    ///
    /// # Errors
    /// A sentence, if it is something else or its elements do not fill its shape.
    pub fn objects(&self) -> Result<(Vec<usize>, &[Id]), String> {
        let state = self
            .state_of_array(self.top)
            .ok_or("expected an array of objects")?;
        let shape = self.shape(state[1]).ok_or("an array without a shape")?;
        let Value::List(items) = self.value(state[4]) else {
            return Err("expected an array of objects, found one of numbers".to_owned());
        };
        let expected = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size));
        if expected != Some(items.len()) || matches!(self.value(state[3]), Value::Bool(true)) {
            return Err(format!(
                "expected objects for shape {shape:?} row by row, found {}",
                items.len()
            ));
        }
        Ok((shape, items))
    }

    /// The value under a key of a dict.
    pub fn get(&self, dict: Id, key: &str) -> Option<Id> {
        match self.value(dict) {
            Value::Dict(items) => items
                .iter()
                .rev()
                .find(|(name, _)| matches!(self.value(*name), Value::Text(text) if text == key))
                .map(|&(_, value)| value),
            _ => None,
        }
    }

    /// A NumPy array of numbers.
    ///
    /// # Errors
    /// A sentence, if the value is something else or its bytes do not fill its shape.
    pub fn array(&self, id: Id) -> Result<PickledArray<'a>, String> {
        let state = self
            .state_of_array(id)
            .ok_or_else(|| format!("expected a NumPy array, found {:?}", self.value(id)))?;
        let shape = self.shape(state[1]).ok_or("an array without a shape")?;
        let (dtype, endian) = self
            .dtype(state[2])
            .ok_or("an array of unknown number type")?;
        let fortran_order = matches!(self.value(state[3]), Value::Bool(true) | Value::Int(1));
        let data = self
            .bytes(state[4])
            .ok_or("expected an array of numbers, found one of objects")?;
        let expected = shape
            .iter()
            .try_fold(dtype.size(), |product, &size| product.checked_mul(size))
            .ok_or("an array too large")?;
        if data.len() != expected {
            return Err(format!(
                "expected {expected} bytes for shape {shape:?}, found {}",
                data.len()
            ));
        }
        Ok(PickledArray {
            shape,
            dtype,
            endian,
            fortran_order,
            data,
        })
    }

    /// Bytes as they are, or in a text whose characters stand for one each, as protocol 2 has to write them.
    fn bytes(&self, id: Id) -> Option<Cow<'a, [u8]>> {
        let (callable, arguments) = match self.value(id) {
            Value::Bytes(range) => return self.bytes.get(range.clone()).map(Cow::Borrowed),
            Value::Object {
                callable,
                arguments,
                state: None,
            } => (self.value(*callable), self.value(*arguments)),
            _ => return None,
        };
        match (callable, arguments) {
            (Value::Global(name), Value::Tuple(arguments)) if name == "_codecs encode" => {
                let &[text, coding] = arguments.as_slice() else {
                    return None;
                };
                match (self.value(text), self.value(coding)) {
                    (Value::Text(text), Value::Text(coding)) if coding == "latin1" => {
                        let bytes = text.chars().map(|c| u8::try_from(u32::from(c)).ok());
                        bytes.collect::<Option<Vec<u8>>>().map(Cow::Owned)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    fn shape(&self, id: Id) -> Option<Vec<usize>> {
        let Value::Tuple(sizes) = self.value(id) else {
            return None;
        };
        let size = |&size: &Id| match self.value(size) {
            Value::Int(size) => usize::try_from(*size).ok(),
            _ => None,
        };
        sizes.iter().map(size).collect()
    }

    /// `(version, shape, dtype, order, data)` of a reconstructed array.
    fn state_of_array(&self, id: Id) -> Option<[Id; 5]> {
        let Value::Object {
            callable,
            state: Some(state),
            ..
        } = self.value(id)
        else {
            return None;
        };
        match (self.value(*callable), self.value(*state)) {
            (Value::Global(name), Value::Tuple(state))
                if name.ends_with("multiarray _reconstruct") =>
            {
                state.as_slice().try_into().ok()
            }
            _ => None,
        }
    }

    fn dtype(&self, id: Id) -> Option<(Dtype, Endian)> {
        let Value::Object {
            callable,
            arguments,
            state,
        } = self.value(id)
        else {
            return None;
        };
        let (Value::Global(name), Value::Tuple(arguments)) =
            (self.value(*callable), self.value(*arguments))
        else {
            return None;
        };
        let Value::Text(code) = self.value(*arguments.first()?) else {
            return None;
        };
        let order = match state.map(|state| self.value(state)) {
            Some(Value::Tuple(items)) => match items.get(1).map(|&item| self.value(item)) {
                Some(Value::Text(order)) => order.as_str(),
                _ => "<",
            },
            _ => "<",
        };
        let (dtype, _) = number_type(code)??;
        let endian = if order == ">" {
            Endian::Big
        } else {
            Endian::Little
        };
        (name == "numpy dtype").then_some((dtype, endian))
    }
}
