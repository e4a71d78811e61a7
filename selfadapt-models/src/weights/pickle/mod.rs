//! Python pickles read as plain data: what a pickle would call is noted down, nothing is ever called.
//!
//! Values live in one arena and name each other by number, so neither deep nesting nor cycles can exhaust
//! the stack; their number is bounded by the number of bytes read.

mod cursor;
mod machine;

/// The largest pickle that is read, in bytes. Cellpose's own have 50 KiB, whole model zoos less than 1 MiB.
pub const MAX_BYTES: usize = 16 << 20;

/// Number of a value within its [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(usize);

/// One value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A `str`.
    Text(String),
    /// A `bytes` (or a Python 2 `str`).
    Bytes(Vec<u8>),
    /// A `tuple`.
    Tuple(Vec<Id>),
    /// A `list`.
    List(Vec<Id>),
    /// A `dict` or `OrderedDict` in order of insertion, with the attributes given to it afterwards.
    Dict {
        /// Keys and values; a key set twice appears twice.
        items: Vec<(Id, Id)>,
        /// The instance's attributes.
        state: Option<Id>,
    },
    /// A name that was allowed, as `module.name`.
    Global(String),
    /// What calling a global would give: never called.
    Call {
        /// The global, as `module.name`.
        callable: String,
        /// The tuple of its arguments.
        arguments: Id,
        /// What `__setstate__` would receive afterwards.
        state: Option<Id>,
    },
    /// A reference to something outside the pickle (torch: a storage).
    Persistent(Id),
}

/// Every value of a pickle, and which one it is about.
#[derive(Clone, Debug)]
pub struct Graph {
    nodes: Vec<Node>,
    /// The pickled value.
    pub root: Id,
    /// How many bytes the pickle took.
    pub end: usize,
}

/// Reads one pickle from the start of `bytes`; whatever follows it is left alone.
///
/// `allow` decides which globals (`module.name`) may occur; `collections.OrderedDict` (read as a dict) and
/// `_codecs.encode` (read as bytes) always may.
///
/// # Errors
/// A sentence saying what is wrong and at which byte: a global that is not allowed, an unknown opcode, an
/// early end, or a pickle beyond [`MAX_BYTES`].
pub fn parse(bytes: &[u8], allow: fn(&str) -> bool) -> Result<Graph, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!(
            "its pickle has {} bytes, expected at most {MAX_BYTES}",
            bytes.len()
        ));
    }
    machine::Machine::new(bytes, allow).run()
}

impl Graph {
    /// A value by its number.
    pub fn node(&self, id: Id) -> &Node {
        // Ids are only made by the machine that filled `nodes`, so each is in range.
        &self.nodes[id.0]
    }

    /// Every value, in the order in which the pickle made them.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// A string, if it is one.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            Node::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// Bytes, if it is that.
    pub fn bytes(&self, id: Id) -> Option<&[u8]> {
        match self.node(id) {
            Node::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// An integer, if it is one.
    pub fn int(&self, id: Id) -> Option<i64> {
        match self.node(id) {
            Node::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// A length or position, if it is an integer that is not negative.
    pub fn size(&self, id: Id) -> Option<usize> {
        self.int(id).and_then(|value| usize::try_from(value).ok())
    }

    /// A tuple of lengths or positions, if it is one (a list is accepted too).
    pub fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.sequence(id)?.iter().map(|&id| self.size(id)).collect()
    }

    /// The elements of a tuple or list.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.node(id) {
            Node::Dict { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The attributes or state given to a dict or to the result of a call.
    pub fn state(&self, id: Id) -> Option<Id> {
        match self.node(id) {
            Node::Dict { state, .. } | Node::Call { state, .. } => *state,
            _ => None,
        }
    }

    /// The value that a dict holds under a string (the last, if it was set twice).
    pub fn entry(&self, dict: Id, key: &str) -> Option<Id> {
        let items = self.dict(dict)?;
        let found = items.iter().rev().find(|(k, _)| self.text(*k) == Some(key));
        found.map(|(_, value)| *value)
    }

    /// The name of a global.
    pub fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }

    /// A call that was noted down: what, and with which arguments.
    pub fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        match self.node(id) {
            Node::Call {
                callable,
                arguments,
                ..
            } => Some((callable, self.sequence(*arguments)?)),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub fn describe(&self, id: Id) -> String {
        match self.node(id) {
            Node::None => "None".into(),
            Node::Bool(_) => "a bool".into(),
            Node::Int(_) => "an int".into(),
            Node::Float(_) => "a float".into(),
            Node::Text(_) => "a string".into(),
            Node::Bytes(_) => "bytes".into(),
            Node::Tuple(items) => format!("a tuple of {}", items.len()),
            Node::List(items) => format!("a list of {}", items.len()),
            Node::Dict { items, .. } => format!("a dict of {}", items.len()),
            Node::Global(name) => format!("the name {name}"),
            Node::Call { callable, .. } => format!("a result of {callable}"),
            Node::Persistent(_) => "a storage".into(),
        }
    }
}
