//! A NumPy array read item by item along its first axis: numbers, texts, or a pickle of arrays and texts.

use std::io::Read;

use super::super::npy;
use super::super::pickle::read::{Pickle, Value};
use super::super::sample::{Dtype, Endian};

/// The most bytes of one item along the first axis, and of a list of objects or texts as a whole.
const MOST_BYTES: u64 = 1 << 30;

/// The most items along the first axis.
const MOST_ITEMS: usize = 10_000_000;

/// What numbers an item consists of: its shape without the first axis, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// What an array is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Numbers(Dtype, Endian),
    /// NumPy's `U`: so many characters of four bytes.
    Text(usize, Endian),
    Objects,
}

/// The items of an array along its first axis, read in order.
pub(super) struct Items<'a> {
    pub shape: Vec<usize>,
    name: String,
    kind: Kind,
    source: &'a mut dyn Read,
    /// Bytes that follow the header.
    length: u64,
    at: usize,
    /// Items of an array of objects, which is read as a whole.
    objects: Option<std::vec::IntoIter<Item>>,
}

impl<'a> Items<'a> {
    pub fn open(name: &str, source: &'a mut dyn Read, length: u64) -> Result<Self, String> {
        let mut source: &'a mut dyn Read = source;
        let (text, at) = npy::header_text(&mut source)?;
        let nonsense = || format!("cannot make sense of its header {text:?}");
        let (kind, header) = match npy::parse(&text) {
            Some(header) => match header.dtype {
                Some((dtype, endian)) => (Kind::Numbers(dtype, endian), header),
                None => (Kind::Objects, header),
            },
            None => {
                // The rest of the header is read as if these were bytes.
                let descr = npy::descr(&text).ok_or_else(nonsense)?;
                let (characters, endian) = text_type(descr).ok_or_else(nonsense)?;
                let header = npy::parse(&text.replace(descr, "|u1")).ok_or_else(nonsense)?;
                (Kind::Text(characters, endian), header)
            }
        };
        if header.fortran_order && header.shape.len() > 1 {
            return Err("expected rows one after the other, found columns (fortran_order); save it by np.ascontiguousarray".into());
        }
        let this = Self {
            shape: header.shape,
            name: name.to_owned(),
            kind,
            source,
            length: length.saturating_sub(at),
            at: 0,
            objects: None,
        };
        this.check()?;
        Ok(this)
    }

    /// Refuses what is absurd before anything is set aside for it.
    fn check(&self) -> Result<(), String> {
        let one = match self.kind {
            Kind::Numbers(dtype, _) => dtype.size(),
            Kind::Text(characters, _) => characters.saturating_mul(4),
            Kind::Objects => 1, // each takes at least a byte of the pickle
        } as u64;
        let inner = self.shape.iter().skip(1);
        let item = inner.fold(one, |product, &size| product.saturating_mul(size as u64));
        let count = self.shape.first().copied().unwrap_or(1);
        let all = item.saturating_mul(count as u64);
        if all > self.length {
            return Err(format!(
                "its header promises {all} bytes (shape {:?}), but only {} follow; the file was cut off or is damaged",
                self.shape, self.length
            ));
        }
        if item > MOST_BYTES || count > MOST_ITEMS {
            return Err(format!(
                "its shape {:?} is more than is taken at once: {MOST_ITEMS} items of {MOST_BYTES} bytes",
                self.shape
            ));
        }
        Ok(())
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.shape.first().copied().unwrap_or(0)
    }

    /// How its numbers are stored; `None` for others.
    pub fn dtype(&self) -> Option<Dtype> {
        match self.kind {
            Kind::Numbers(dtype, _) => Some(dtype),
            _ => None,
        }
    }

    /// Item `index`, which must not lie before those that were read already; what lies between is passed over.
    ///
    /// # Errors
    /// A sentence, if there is no such item, or the archive is damaged or cut off.
    pub fn read(&mut self, index: usize) -> Result<Item, String> {
        let named = |reason: String, name: &str| format!("array {name}: {reason}");
        if index >= self.len() || index < self.at {
            let reason = format!("there is no item {index} of {} ahead", self.len());
            return Err(named(reason, &self.name));
        }
        let name = self.name.clone();
        let item = match self.kind {
            Kind::Numbers(dtype, endian) => self.numbers(index, dtype, endian),
            Kind::Objects => self.object(index),
            Kind::Text(..) => Err("expected numbers, found texts".into()),
        };
        self.at = index + 1;
        item.map_err(|reason| named(reason, &name))
    }

    fn numbers(&mut self, index: usize, dtype: Dtype, endian: Endian) -> Result<Item, String> {
        let shape = self.shape[1..].to_vec();
        // Within MOST_BYTES, as checked at the beginning.
        let size = shape.iter().product::<usize>() * dtype.size();
        let skipped = (index - self.at) as u64 * size as u64;
        let passed = std::io::copy(&mut (&mut *self.source).take(skipped), &mut std::io::sink())
            .map_err(|error| error.to_string())?;
        let mut bytes = Vec::with_capacity(size);
        (&mut *self.source)
            .take(size as u64)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{error}; the file is damaged or was cut off"))?;
        if passed < skipped || bytes.len() < size {
            return Err(format!("item {index} is cut off"));
        }
        let values = dtype.decode(&bytes, endian).collect();
        Ok(Item { shape, values })
    }

    fn object(&mut self, index: usize) -> Result<Item, String> {
        let mut objects = match self.objects.take() {
            Some(objects) => objects,
            None => {
                let bytes = self.rest()?;
                let pickle = Pickle::read(&bytes)?;
                let (_, ids) = pickle.objects()?;
                let arrays: Result<Vec<Item>, String> = ids
                    .iter()
                    .map(|&id| {
                        let array = pickle.array(id)?;
                        if array.fortran_order && array.shape.len() > 1 {
                            return Err("expected rows one after the other, found columns".into());
                        }
                        Ok(Item {
                            values: array.dtype.decode(&array.data, array.endian).collect(),
                            shape: array.shape,
                        })
                    })
                    .collect();
                arrays?.into_iter()
            }
        };
        let item = objects.nth(index - self.at);
        self.objects = Some(objects);
        item.ok_or_else(|| format!("item {index} is missing"))
    }

    /// All texts, row-major, and the array's shape.
    ///
    /// # Errors
    /// A sentence, if the array holds something else, or is damaged or cut off.
    pub fn texts(&mut self) -> Result<(Vec<usize>, Vec<String>), String> {
        let bytes = self.rest()?;
        let texts: Vec<String> = match self.kind {
            Kind::Numbers(..) => return Err("expected texts, found numbers".into()),
            Kind::Text(characters, endian) => {
                let code = |raw: &[u8]| match (raw.try_into(), endian) {
                    (Ok(raw), Endian::Little) => u32::from_le_bytes(raw),
                    (Ok(raw), Endian::Big) => u32::from_be_bytes(raw),
                    (Err(_), _) => 0,
                };
                let one = |raw: &[u8]| -> String {
                    let codes = raw.chunks_exact(4).map(code).take_while(|&code| code != 0);
                    codes
                        .map(|code| char::from_u32(code).unwrap_or('\u{fffd}'))
                        .collect()
                };
                bytes
                    .chunks_exact((characters * 4).max(1))
                    .map(one)
                    .collect()
            }
            Kind::Objects => {
                let pickle = Pickle::read(&bytes)?;
                let (_, ids) = pickle.objects()?;
                let one = |&id: &usize| match pickle.value(id) {
                    Value::Text(text) => text.clone(),
                    Value::Int(number) => number.to_string(),
                    Value::Float(number) => number.to_string(),
                    _ => String::new(),
                };
                ids.iter().map(one).collect()
            }
        };
        if texts.len() != self.shape.iter().product::<usize>() {
            return Err(format!(
                "array {}: expected texts for shape {:?}, found {}",
                self.name,
                self.shape,
                texts.len()
            ));
        }
        Ok((self.shape.clone(), texts))
    }

    /// Everything that follows the header.
    fn rest(&mut self) -> Result<Vec<u8>, String> {
        if self.length > MOST_BYTES {
            return Err(format!(
                "{} bytes of objects are more than is taken at once ({MOST_BYTES})",
                self.length
            ));
        }
        let mut bytes = Vec::new();
        (&mut *self.source)
            .take(self.length)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{error}; the file is damaged or was cut off"))?;
        Ok(bytes)
    }
}

/// `<U12`: twelve characters.
fn text_type(descr: &str) -> Option<(usize, Endian)> {
    let (order, rest) = descr.split_at_checked(1)?;
    let endian = match order {
        "<" | "|" | "=" => Endian::Little,
        ">" => Endian::Big,
        _ => return None,
    };
    let characters = rest.strip_prefix('U')?.parse().ok()?;
    (1..=4096)
        .contains(&characters)
        .then_some((characters, endian))
}
