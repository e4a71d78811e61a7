//! Reads a pickle into a tree of values; calls in it are recorded, never made.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::npy::number_type;
use super::super::sample::{Dtype, Endian};

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
    pub data: &'a [u8],
}

/// A file with more values than this is no segmentation.
const MOST_VALUES: usize = 20_000_000;

impl<'a> Pickle<'a> {
    /// Reads protocols 2 to 5.
    ///
    /// # Errors
    /// A sentence, if the stream is cut off or holds an instruction that NumPy does not write.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        };
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
        let shape: Option<Vec<usize>> = match self.value(state[1]) {
            Value::Tuple(sizes) => sizes
                .iter()
                .map(|&size| match self.value(size) {
                    Value::Int(size) => usize::try_from(*size).ok(),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        let shape = shape.ok_or("an array without a shape")?;
        let (dtype, endian) = self
            .dtype(state[2])
            .ok_or("an array of unknown number type")?;
        let fortran_order = matches!(self.value(state[3]), Value::Bool(true) | Value::Int(1));
        let Value::Bytes(range) = self.value(state[4]) else {
            return Err("expected an array of numbers, found one of objects".to_owned());
        };
        let data = self.bytes.get(range.clone()).unwrap_or(&[]);
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

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<usize, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let place = self.at;
            let opcode = self.number(1)?;
            match opcode as u8 {
                0x80 => drop(self.number(1)?), // PROTO
                0x95 => drop(self.number(8)?), // FRAME
                b'.' => return self.pop(),     // STOP
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?), // POP
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => self.integer(1)?, // BININT1
                b'M' => self.integer(2)?, // BININT2
                b'J' => {
                    let value = self.number(4)? as u32 as i32;
                    self.push(Value::Int(i64::from(value)))?;
                }
                0x8a => self.long()?, // LONG1
                b'G' => {
                    let range = self.take(8)?;
                    let mut raw = [0; 8];
                    raw.copy_from_slice(&self.bytes[range]);
                    self.push(Value::Float(f64::from_be_bytes(raw)))?;
                }
                0x8c => self.text(1)?,        // SHORT_BINUNICODE
                b'X' => self.text(4)?,        // BINUNICODE
                0x8d => self.text(8)?,        // BINUNICODE8
                b'C' => self.blob(1)?,        // SHORT_BINBYTES
                b'B' => self.blob(4)?,        // BINBYTES
                0x8e | 0x96 => self.blob(8)?, // BINBYTES8, BYTEARRAY8
                b']' => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b')' => self.push(Value::Tuple(Vec::new()))?,
                b't' => {
                    let items = self.marked()?;
                    self.push(Value::Tuple(items))?;
                }
                b'l' => {
                    let items = self.marked()?;
                    self.push(Value::List(items))?;
                }
                count @ 0x85..=0x87 => {
                    let from = self.stack.len().checked_sub(usize::from(count - 0x84));
                    let items = self.stack.split_off(from.ok_or("a tuple lacks items")?);
                    self.push(Value::Tuple(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                }
                b'e' => {
                    let items = self.marked()?;
                    self.extend_list(items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.extend_dict(&[key, value])?;
                }
                b'u' => {
                    let items = self.marked()?;
                    self.extend_dict(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Value::Global(format!("{module} {name}")))?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id: Id| match &self.values[id] {
                        Value::Text(text) => Ok(text.clone()),
                        other => Err(format!("expected a name, found {other:?}")),
                    };
                    let global = format!("{} {}", text(module)?, text(name)?);
                    self.push(Value::Global(global))?;
                }
                b'R' | 0x81 => {
                    let (arguments, callable) = (self.pop()?, self.pop()?);
                    self.push(Value::Object {
                        callable,
                        arguments,
                        state: None,
                    })?;
                }
                b'b' => {
                    let (given, object) = (self.pop()?, self.pop()?);
                    if let Some(Value::Object { state, .. }) = self.values.get_mut(object) {
                        *state = Some(given);
                    }
                    self.stack.push(object);
                }
                0x94 => self.remember(self.memo.len())?,
                b'q' => {
                    let key = self.number(1)?;
                    self.remember(key)?;
                }
                b'r' => {
                    let key = self.number(4)?;
                    self.remember(key)?;
                }
                b'h' => {
                    let key = self.number(1)?;
                    self.recall(key)?;
                }
                b'j' => {
                    let key = self.number(4)?;
                    self.recall(key)?;
                }
                other => {
                    return Err(format!(
                        "instruction {other:#04x} at byte {place} is none that NumPy writes"
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<Range<usize>, String> {
        let end = self
            .at
            .checked_add(count)
            .filter(|&end| end <= self.bytes.len());
        let end = end
            .ok_or_else(|| format!("it ends at byte {}; the file was cut off", self.bytes.len()))?;
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    /// A little-endian number of up to 8 bytes.
    fn number(&mut self, count: usize) -> Result<usize, String> {
        let range = self.take(count)?;
        let mut raw = [0; 8];
        raw[..count].copy_from_slice(&self.bytes[range]);
        usize::try_from(u64::from_le_bytes(raw)).map_err(|error| error.to_string())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("a name without an end")?;
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        self.at += length + 1;
        Ok(text)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() == MOST_VALUES {
            return Err(format!("it holds more than {MOST_VALUES} values"));
        }
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn integer(&mut self, count: usize) -> Result<(), String> {
        let value = self.number(count)? as i64;
        self.push(Value::Int(value))
    }

    fn long(&mut self) -> Result<(), String> {
        let count = self.number(1)?;
        let range = self.take(count)?;
        let raw = &self.bytes[range];
        if raw.len() > 8 {
            return Err("an integer beyond 64 bits".to_owned());
        }
        let fill = if raw.last().is_some_and(|&byte| byte & 0x80 != 0) {
            0xff
        } else {
            0
        };
        let mut whole = [fill; 8];
        whole[..raw.len()].copy_from_slice(raw);
        self.push(Value::Int(i64::from_le_bytes(whole)))
    }

    fn text(&mut self, width: usize) -> Result<(), String> {
        let count = self.number(width)?;
        let range = self.take(count)?;
        let text = String::from_utf8_lossy(&self.bytes[range]).into_owned();
        self.push(Value::Text(text))
    }

    fn blob(&mut self, width: usize) -> Result<(), String> {
        let count = self.number(width)?;
        let range = self.take(count)?;
        self.push(Value::Bytes(range))
    }

    fn pop(&mut self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("it takes from an empty stack".to_owned());
        }
        self.stack
            .pop()
            .ok_or_else(|| "it takes from an empty stack".to_owned())
    }

    fn marked(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        if mark > self.stack.len() {
            return Err("a mark lies above the stack".to_owned());
        }
        Ok(self.stack.split_off(mark))
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<(), String> {
        match self.stack.last().and_then(|&id| self.values.get_mut(id)) {
            Some(Value::List(list)) => {
                list.extend(items);
                Ok(())
            }
            other => Err(format!("expected a list to append to, found {other:?}")),
        }
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        match self.stack.last().and_then(|&id| self.values.get_mut(id)) {
            Some(Value::Dict(dict)) => {
                dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            other => Err(format!("expected a dict to fill, found {other:?}")),
        }
    }

    fn remember(&mut self, key: usize) -> Result<(), String> {
        let id = *self.stack.last().ok_or("nothing to remember")?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), String> {
        let id = *self
            .memo
            .get(&key)
            .ok_or_else(|| format!("memo {key} was never filled"))?;
        self.stack.push(id);
        Ok(())
    }
}
