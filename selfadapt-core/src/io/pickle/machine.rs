//! Runs the instructions of a pickle of protocol 2 to 5 on values alone.

use std::collections::BTreeMap;
use std::ops::Range;

use super::read::{Id, Value};

/// A file with more values than this is no segmentation.
const MOST_VALUES: usize = 20_000_000;

/// The stack machine that a pickle is a program for.
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    pub values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: BTreeMap<usize, Id>,
}

impl<'a> Machine<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
        }
    }

    /// Runs to the end; returns the outermost value.
    pub fn run(&mut self) -> Result<Id, String> {
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
