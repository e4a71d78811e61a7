//! The pickle virtual machine: the opcodes of protocols 2 to 5 that data needs, as Python's `pickletools` names them.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::{Graph, Id, MAX_BYTES, Node};

/// The state of reading one pickle.
pub(super) struct Machine<'a> {
    input: Cursor<'a>,
    allow: fn(&str) -> bool,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Stack heights at which a MARK lies; nothing below the last may be popped.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
    /// Elements copied from one value into another: bounded, or a few bytes could multiply a large value.
    copied: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(input: &'a [u8], allow: fn(&str) -> bool) -> Self {
        Self {
            input: Cursor::new(input),
            allow,
            nodes: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: BTreeMap::new(),
            copied: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<Graph, String> {
        loop {
            let start = self.input.at;
            let [opcode] = self.input.take_array()?;
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok(Graph {
                    nodes: self.nodes,
                    root,
                    end: self.input.at,
                });
            }
            self.step(opcode)
                .map_err(|reason| format!("{reason} (byte {start} of the pickle)"))?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), String> {
        match opcode {
            // PROTO, FRAME
            0x80 => self.input.take_array::<1>().map(drop),
            0x95 => self.input.take_array::<8>().map(drop),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // POP, POP_MARK
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.marks.pop();
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'J' | b'K' | b'M' | 0x8a | b'G' => {
                let node = self.input.number(opcode)?;
                self.push(node)
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e => {
                let node = self.input.string(opcode)?;
                self.push(node)
            }
            b')' => self.push(Node::Tuple(Vec::new())),
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(dict(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_n(usize::from(opcode - 0x84))?;
                self.push(Node::Tuple(items))
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items))
            }
            b'a' => {
                let items = self.pop_n(1)?;
                self.extend(items)
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend(items)
            }
            b's' => {
                let items = self.pop_n(2)?;
                self.set_items(&items)
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)
            }
            b'c' => {
                let name = format!("{}.{}", self.input.take_line()?, self.input.take_line()?);
                self.global(name)
            }
            // STACK_GLOBAL
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                match (&self.nodes[module.0], &self.nodes[name.0]) {
                    (Node::Text(module), Node::Text(name)) => {
                        self.global(format!("{module}.{name}"))
                    }
                    _ => Err("a name of something that is not a string".into()),
                }
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => self.call(),
            b'b' => self.build(),
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo(opcode),
            other => Err(format!(
                "opcode 0x{other:02x}, which data files do not use; nothing was executed"
            )),
        }
    }

    fn global(&mut self, name: String) -> Result<(), String> {
        let known = matches!(name.as_str(), "collections.OrderedDict" | "_codecs.encode");
        if known || (self.allow)(&name) {
            return self.push(Node::Global(name));
        }
        Err(format!(
            "refers to {name}, which plain weights do not need; it was not called"
        ))
    }

    fn call(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let callable = self.pop()?;
        let (Node::Global(name), Node::Tuple(items)) =
            (&self.nodes[callable.0], &self.nodes[arguments.0])
        else {
            return Err("a call of something that is not a name".into());
        };
        let node = match (name.as_str(), items.as_slice()) {
            ("collections.OrderedDict", []) => dict(Vec::new()),
            ("collections.OrderedDict", [list]) => {
                let Node::List(entries) = &self.nodes[list.0] else {
                    return Err("an OrderedDict of something that is not a list".into());
                };
                self.copied += entries.len();
                let entries: Option<Vec<_>> = entries.iter().map(|id| self.pair(*id)).collect();
                dict(entries.ok_or("an OrderedDict of things that are not pairs")?)
            }
            // Python 3 writes bytes so in protocol 2.
            ("_codecs.encode", [text, ..]) => {
                let Node::Text(text) = &self.nodes[text.0] else {
                    return Err("bytes written as something that is not text".into());
                };
                self.copied += text.len();
                let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
                Node::Bytes(bytes.map_err(|_| "bytes written as text beyond latin-1")?)
            }
            (name, _) => Node::Call {
                callable: name.to_owned(),
                arguments,
                state: None,
            },
        };
        if self.copied > MAX_BYTES {
            return Err("the same value is copied over and over".into());
        }
        self.push(node)
    }

    fn pair(&self, id: Id) -> Option<(Id, Id)> {
        match &self.nodes[id.0] {
            Node::Tuple(pair) | Node::List(pair) => match pair.as_slice() {
                [key, value] => Some((*key, *value)),
                _ => None,
            },
            _ => None,
        }
    }

    /// BUILD: remembers the state; what it would do is the caller's business.
    fn build(&mut self) -> Result<(), String> {
        let new = self.pop()?;
        let object = self.top()?;
        match &mut self.nodes[object.0] {
            Node::Dict { state, .. } | Node::Call { state, .. } => {
                *state = Some(new);
                Ok(())
            }
            _ => Err("a state for something that has none".into()),
        }
    }

    fn extend(&mut self, items: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.nodes[list.0] {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err("an element for something that is not a list".into()),
        }
    }

    fn set_items(&mut self, new: &[Id]) -> Result<(), String> {
        let new = pairs(new)?;
        let target = self.top()?;
        match &mut self.nodes[target.0] {
            Node::Dict { items, .. } => {
                items.extend(new);
                Ok(())
            }
            _ => Err("an entry for something that is not a dict".into()),
        }
    }

    fn memo(&mut self, opcode: u8) -> Result<(), String> {
        let index = match opcode {
            b'q' | b'h' => self.input.take_array::<1>()?[0].into(),
            b'r' | b'j' => u32::from_le_bytes(self.input.take_array()?),
            // MEMOIZE
            _ => u32::try_from(self.memo.len()).map_err(|_| "too long a memo")?,
        };
        if matches!(opcode, b'h' | b'j') {
            let Some(&id) = self.memo.get(&index) else {
                return Err(format!("the memo has nothing under {index}"));
            };
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memo.insert(index, top);
        }
        Ok(())
    }

    fn push(&mut self, node: Node) -> Result<(), String> {
        self.stack.push(Id(self.nodes.len()));
        self.nodes.push(node);
        Ok(())
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("a value is missing".into()),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Id>, String> {
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= self.floor() => Ok(self.stack.split_off(from)),
            _ => Err("values are missing".into()),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        match self.marks.pop() {
            Some(from) if from <= self.stack.len() => Ok(self.stack.split_off(from)),
            _ => Err("a mark is missing".into()),
        }
    }
}

fn dict(items: Vec<(Id, Id)>) -> Node {
    Node::Dict { items, state: None }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    if !items.len().is_multiple_of(2) {
        return Err("a key without a value".into());
    }
    Ok(items
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect())
}
