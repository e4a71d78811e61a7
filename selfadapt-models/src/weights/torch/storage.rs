//! From torch's description of a tensor (storage, offset, shape, strides) to its numbers.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Tensor};

use crate::weights::bytes;
use crate::weights::pickle::{Graph, Id, Node};

/// Gives the bytes of a storage by its key, at most so many.
pub(super) type Fetch<'a> = &'a mut dyn FnMut(&str, usize) -> Result<Vec<u8>, String>;

/// The most dimensions a tensor may have.
const MAX_RANK: usize = 16;

const REBUILD_V2: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_V3: &str = "torch._utils._rebuild_tensor_v3";
const PARAMETER: &str = "torch._utils._rebuild_parameter";

/// How torch stores a number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Numbers {
    /// As in a tensor of ours.
    As(DType),
    /// Signed bytes, for which there is no type of ours: widened to i16.
    I8,
    /// Bytes whose meaning the tensor gives.
    Untyped,
}

impl Numbers {
    /// By the storage's class or the name of the number type.
    fn named(global: &str) -> Option<Self> {
        Some(match global {
            "torch.FloatStorage" | "torch.float32" => Self::As(DType::F32),
            "torch.DoubleStorage" | "torch.float64" => Self::As(DType::F64),
            "torch.HalfStorage" | "torch.float16" => Self::As(DType::F16),
            "torch.BFloat16Storage" | "torch.bfloat16" => Self::As(DType::BF16),
            "torch.LongStorage" | "torch.int64" => Self::As(DType::I64),
            "torch.IntStorage" | "torch.int32" => Self::As(DType::I32),
            "torch.ShortStorage" | "torch.int16" => Self::As(DType::I16),
            "torch.CharStorage" | "torch.int8" => Self::I8,
            "torch.ByteStorage" | "torch.uint8" => Self::As(DType::U8),
            "torch.uint32" => Self::As(DType::U32),
            "torch.BoolStorage" | "torch.bool" => Self::As(DType::U8),
            "torch.UntypedStorage" | "torch.storage.UntypedStorage" => Self::Untyped,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Self::As(dtype) => dtype.size_in_bytes(),
            Self::I8 | Self::Untyped => 1,
        }
    }
}

/// Whether a global may occur in a checkpoint: rebuilding tensors, and the names of number types.
pub(super) fn is_allowed(global: &str) -> bool {
    matches!(
        global,
        REBUILD_V2 | REBUILD_V3 | PARAMETER | "torch.Size" | "torch.device"
    ) || Numbers::named(global).is_some()
}

/// Whether a value describes a tensor.
pub(super) fn is_tensor(graph: &Graph, id: Id) -> bool {
    graph
        .call(id)
        .is_some_and(|(name, _)| matches!(name, REBUILD_V2 | REBUILD_V3 | PARAMETER))
}

/// Bytes per element of every storage that a pickle refers to, by its key.
pub(super) fn widths(graph: &Graph) -> BTreeMap<&str, usize> {
    graph
        .nodes()
        .filter_map(|node| match node {
            Node::Persistent(reference) => {
                let [_, class, key, ..] = graph.sequence(*reference)? else {
                    return None;
                };
                let numbers = graph.global(*class).and_then(Numbers::named)?;
                Some((graph.text(*key)?, numbers.bytes()))
            }
            _ => None,
        })
        .collect()
}

/// All tensors of a state dict.
pub(super) fn tensors<'a>(
    graph: &'a Graph,
    dict: Id,
    fetch: Fetch<'a>,
) -> Result<Vec<(String, Tensor)>, String> {
    let items = graph.dict(dict).unwrap_or_default();
    let mut views = Vec::with_capacity(items.len());
    let mut names = BTreeSet::new();
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for (key, value) in items {
        let name = graph.text(*key).unwrap_or_default();
        if !names.insert(name) {
            return Err(format!("holds {name} twice"));
        }
        let view = View::of(graph, *value).map_err(|reason| format!("{name}: {reason}"))?;
        *users.entry(view.key).or_default() += 1;
        views.push((name, view));
    }
    let mut storages = Storages {
        fetch,
        users,
        known: BTreeMap::new(),
        held: 0,
        given: 0,
    };
    views
        .into_iter()
        .map(|(name, view)| match storages.tensor(&view) {
            Ok(tensor) => Ok((name.to_owned(), tensor)),
            Err(reason) => Err(format!("{name}: {reason}")),
        })
        .collect()
}

/// A tensor as a checkpoint describes it; lengths in elements.
struct View<'a> {
    key: &'a str,
    numbers: Numbers,
    storage_bytes: usize,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    elements: usize,
}

impl<'a> View<'a> {
    fn of(graph: &'a Graph, mut id: Id) -> Result<Self, String> {
        if let Some((PARAMETER, [data, ..])) = graph.call(id) {
            id = *data;
        }
        let (storage, offset, shape, strides, dtype) = match graph.call(id) {
            Some((REBUILD_V2, [storage, offset, shape, strides, ..])) => {
                (storage, offset, shape, strides, None)
            }
            Some((REBUILD_V3, [storage, offset, shape, strides, _, _, dtype, ..])) => {
                (storage, offset, shape, strides, Some(dtype))
            }
            _ => return Err(format!("expected a tensor, found {}", graph.describe(id))),
        };
        let Node::Persistent(reference) = graph.node(*storage) else {
            return Err(format!(
                "expected a storage, found {}",
                graph.describe(*storage)
            ));
        };
        let Some([tag, class, key, _, length, ..]) = graph.sequence(*reference) else {
            return Err("the reference to its storage is malformed".into());
        };
        let named = |id: Id| graph.global(id).and_then(Numbers::named);
        let (Some("storage"), Some(class), Some(key), Some(length)) = (
            graph.text(*tag),
            named(*class),
            graph.text(*key),
            graph.size(*length),
        ) else {
            return Err("the reference to its storage is malformed".into());
        };
        let numbers = match dtype {
            None => Some(class),
            Some(dtype) => named(*dtype),
        };
        let (Some(numbers), Some(offset), Some(shape), Some(strides)) = (
            numbers.filter(|numbers| *numbers != Numbers::Untyped),
            graph.size(*offset),
            graph.sizes(*shape),
            graph.sizes(*strides),
        ) else {
            return Err("its type, offset, shape or strides are malformed".into());
        };
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            return Err(format!("shape {shape:?} with strides {strides:?}"));
        }
        let too_large = || format!("shape {shape:?} with strides {strides:?} is beyond any memory");
        let elements = bytes::elements(&shape).ok_or_else(too_large)?;
        let storage_bytes = length.checked_mul(class.bytes()).ok_or_else(too_large)?;
        // One past the last element that the view touches.
        let end = if elements == 0 {
            Some(0)
        } else {
            shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |end, (&side, &stride)| {
                    end.checked_add((side - 1).checked_mul(stride)?)
                })
                .and_then(|last| last.checked_add(1)?.checked_mul(numbers.bytes()))
        };
        match end {
            Some(end) if end <= storage_bytes => {}
            _ => {
                return Err(format!(
                    "shape {shape:?} with strides {strides:?} from element {offset} reaches beyond its storage of {storage_bytes} bytes"
                ));
            }
        }
        Ok(Self {
            key,
            numbers,
            storage_bytes,
            offset,
            shape,
            strides,
            elements,
        })
    }

    /// The view's numbers, gathered in row-major order.
    fn gather(&self, storage: &[u8]) -> Vec<u8> {
        let width = self.numbers.bytes();
        let element = |at: usize| {
            storage
                .get(at * width..(at + 1) * width)
                .unwrap_or_default()
        };
        if self.elements == 0 {
            return Vec::new();
        }
        let mut expected = 1;
        let contiguous = self
            .shape
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&side, &stride)| {
                let fits = side == 1 || stride == expected;
                expected *= side;
                fits
            });
        if contiguous {
            let range = self.offset * width..(self.offset + self.elements) * width;
            return storage.get(range).unwrap_or_default().to_vec();
        }
        let mut gathered = Vec::with_capacity(self.elements * width);
        let mut index = vec![0; self.shape.len()];
        for _ in 0..self.elements {
            let position: usize = index
                .iter()
                .zip(&self.strides)
                .map(|(i, stride)| i * stride)
                .sum();
            gathered.extend_from_slice(element(self.offset + position));
            for (i, &side) in index.iter_mut().zip(&self.shape).rev() {
                *i += 1;
                if *i < side {
                    break;
                }
                *i = 0;
            }
        }
        gathered
    }
}

/// Storages that tensors still to come look into; several may look into one.
struct Storages<'a> {
    fetch: Fetch<'a>,
    /// How many tensors are still to look into each.
    users: BTreeMap<&'a str, usize>,
    known: BTreeMap<&'a str, Vec<u8>>,
    /// Bytes of all storages read, and of all tensors made from them.
    held: usize,
    given: usize,
}

impl<'a> Storages<'a> {
    fn tensor(&mut self, view: &View<'a>) -> Result<Tensor, String> {
        if !self.known.contains_key(view.key) {
            let bytes = (self.fetch)(view.key, view.storage_bytes)?;
            self.held += bytes.len();
            self.known.insert(view.key, bytes);
        }
        let storage = self
            .known
            .get(view.key)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if storage.len() < view.storage_bytes {
            return Err(format!(
                "its storage {} should have {} bytes and has {}: truncated or damaged",
                view.key,
                view.storage_bytes,
                storage.len()
            ));
        }
        // Tied weights share storages; a small file that unfolds into a huge one is an attack.
        self.given = self
            .given
            .saturating_add(view.elements.saturating_mul(view.numbers.bytes()));
        if self.given > self.held.saturating_mul(8).saturating_add(1 << 20) {
            return Err("the tensors repeat their storages more than eightfold".into());
        }
        let gathered = view.gather(storage);
        if let Some(users) = self.users.get_mut(view.key) {
            *users -= 1;
            if *users == 0 {
                self.known.remove(view.key);
            }
        }
        let (gathered, dtype) = match view.numbers {
            Numbers::As(dtype) => (gathered, dtype),
            Numbers::I8 | Numbers::Untyped => {
                let widened = gathered
                    .iter()
                    .flat_map(|&byte| i16::from(byte as i8).to_le_bytes());
                (widened.collect(), DType::I16)
            }
        };
        bytes::to_tensor(&gathered, dtype, &view.shape).map_err(|error| error.to_string())
    }
}
