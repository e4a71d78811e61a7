//! Named weights in the order of their names, and how they are lent to a model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Shape, Tensor, Var};
use candle_nn::VarBuilder;
use candle_nn::var_builder::SimpleBackend;
use serde::Serialize;

use crate::error::{Error, Result, without_backtrace};

/// What a named parameter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Role {
    /// Learned by gradients; anchored by L2-SP, decayed, averaged by the teacher.
    Weight,
    /// Learned by counting (batch-norm statistics): no gradient, but averaged by the teacher.
    Buffer,
    /// Carried along unchanged and not asked for by the network (Cellpose's `diam_mean`).
    Constant,
}

/// Where in a network a weight works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Stage {
    /// On the way from the image to the deepest features.
    Encoder,
    /// From there to the maps.
    Decoder,
}

/// Whether a model that borrows weights can be differentiated by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lend {
    /// Tensors that record a graph: a student.
    Tracked,
    /// Tensors that share the storage and record nothing: a teacher, inference. In-place updates show.
    Detached,
}

/// Every parameter of a model by name, in name order.
#[derive(Clone, Debug)]
pub struct ParamSet {
    entries: BTreeMap<String, (Var, Role)>,
}

impl ParamSet {
    /// Copies tensors into parameters; `role` says what each is for.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn new(
        tensors: impl IntoIterator<Item = (String, Tensor)>,
        role: impl Fn(&str) -> Role,
    ) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (name, tensor) in tensors {
            let role = role(&name);
            entries.insert(name, (Var::from_tensor(&tensor.copy()?)?, role));
        }
        Ok(Self { entries })
    }

    /// All parameters in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var, Role)> {
        self.entries
            .iter()
            .map(|(name, (var, role))| (name.as_str(), var, *role))
    }

    /// The parameters that gradients move, in name order.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter()
            .filter(|(_, _, role)| *role == Role::Weight)
            .map(|(name, var, _)| (name, var))
    }

    /// The buffers (running statistics), in name order.
    pub fn buffers(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter()
            .filter(|(_, _, role)| *role == Role::Buffer)
            .map(|(name, var, _)| (name, var))
    }

    /// One parameter.
    pub fn get(&self, name: &str) -> Option<&Var> {
        self.entries.get(name).map(|(var, _)| var)
    }

    /// How many parameters there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the parameters lie; the CPU if there is none.
    pub fn device(&self) -> Device {
        self.entries
            .values()
            .next()
            .map_or(Device::Cpu, |(var, _)| var.device().clone())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A deep copy: nothing is shared with `self`.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn fork(&self) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (name, (var, role)) in &self.entries {
            let copy = Var::from_tensor(&var.as_detached_tensor().copy()?)?;
            entries.insert(name.clone(), (copy, *role));
        }
        Ok(Self { entries })
    }

    /// A deep copy on another device.
    ///
    /// # Errors
    /// If a tensor cannot be moved.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (name, (var, role)) in &self.entries {
            let moved = var.as_detached_tensor().to_device(device)?.copy()?;
            entries.insert(name.clone(), (Var::from_tensor(&moved)?, *role));
        }
        Ok(Self { entries })
    }

    /// Overwrites every value, in place, by that of the same name in `other`.
    ///
    /// # Errors
    /// If the two sets differ in names or shapes.
    pub fn assign(&self, other: &Self) -> Result<()> {
        if !self.entries.keys().eq(other.entries.keys()) {
            return Err(Error::Weights("the two sets hold different names".into()));
        }
        for ((_, (to, _)), (_, (from, _))) in self.entries.iter().zip(&other.entries) {
            to.set(&from.as_detached_tensor())?;
        }
        Ok(())
    }

    /// Plain tensors for a writer, in name order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Tensor, Role)> {
        self.iter()
            .map(|(name, var, role)| (name, var.as_detached_tensor(), role))
    }

    /// Lends the parameters to `build`.
    ///
    /// # Errors
    /// If `build` asks for a name that is missing or has another shape, or leaves a weight or buffer
    /// unasked for; all unused names are listed.
    pub fn lend<T>(&self, lend: Lend, build: impl FnOnce(VarBuilder) -> Result<T>) -> Result<T> {
        let device = self.device();
        let used = Arc::new(Mutex::new(BTreeSet::new()));
        let lender = Lender {
            entries: self.entries.clone(),
            lend,
            used: used.clone(),
        };
        let built = build(VarBuilder::from_backend(
            Box::new(lender),
            DType::F32,
            device,
        ))
        .map_err(|error| match error {
            // What a builder asks of the tensor library is weights.
            Error::Tensor(reason) => Error::Weights(without_backtrace(&reason)),
            other => other,
        })?;
        let used = used
            .lock()
            .map_err(|_| Error::Weights("a builder panicked".into()))?;
        let unused: Vec<&str> = self
            .iter()
            .filter(|(name, _, role)| *role != Role::Constant && !used.contains(*name))
            .map(|(name, _, _)| name)
            .collect();
        if unused.is_empty() {
            Ok(built)
        } else {
            Err(Error::Weights(format!(
                "{} unknown to the model: {}",
                count(unused.len(), "tensor is", "tensors are"),
                listed(&unused)
            )))
        }
    }
}

/// "1 tensor is", "3 tensors are".
fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Up to eight names, and how many more there are.
fn listed(names: &[&str]) -> String {
    let mut text = names.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    if names.len() > 8 {
        text.push_str(&format!(" and {} more", names.len() - 8));
    }
    text
}

/// Serves parameters to a `VarBuilder` and remembers which were asked for.
struct Lender {
    entries: BTreeMap<String, (Var, Role)>,
    lend: Lend,
    used: Arc<Mutex<BTreeSet<String>>>,
}

impl Lender {
    fn serve(&self, name: &str) -> candle_core::Result<Tensor> {
        let Some((var, _)) = self.entries.get(name) else {
            candle_core::bail!("{name}: expected by the model, missing from the weights");
        };
        if let Ok(mut used) = self.used.lock() {
            used.insert(name.to_owned());
        }
        Ok(match self.lend {
            Lend::Tracked => var.as_tensor().clone(),
            Lend::Detached => var.as_detached_tensor(),
        })
    }
}

impl SimpleBackend for Lender {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        _: DType,
        _: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = self.serve(name)?;
        if tensor.shape() != &shape {
            candle_core::bail!(
                "{name}: expected {:?}, the weights hold {:?}",
                shape.dims(),
                tensor.dims()
            );
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        self.serve(name)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ParamSet {
        let tensor = |n: usize| Tensor::ones(n, DType::F32, &Device::Cpu).unwrap();
        ParamSet::new(
            [
                ("b.bias".to_owned(), tensor(2)),
                ("a.weight".to_owned(), tensor(3)),
            ],
            |_| Role::Weight,
        )
        .unwrap()
    }

    #[test]
    fn names_come_in_order() {
        let names: Vec<_> = set().iter().map(|(name, _, _)| name.to_owned()).collect();
        assert_eq!(names, ["a.weight", "b.bias"]);
    }

    #[test]
    fn missing_misshaped_and_unused_weights_are_named() {
        let say = |result: Result<()>| result.unwrap_err().to_string();
        let missing = say(set().lend(Lend::Tracked, |vb| Ok(vb.get(1, "c").map(|_| ())?)));
        assert!(
            missing.contains("c: expected by the model, missing"),
            "{missing}"
        );
        let misshaped = say(set().lend(Lend::Tracked, |vb| {
            Ok(vb.pp("a").get(4, "weight").map(|_| ())?)
        }));
        assert!(
            misshaped.contains("a.weight: expected [4], the weights hold [3]"),
            "{misshaped}"
        );
        let unused = say(set().lend(Lend::Tracked, |vb| {
            Ok(vb.pp("a").get(3, "weight").map(|_| ())?)
        }));
        assert!(unused.contains("b.bias"), "{unused}");
    }

    #[test]
    fn a_detached_loan_sees_updates_in_place() {
        let set = set();
        let lent = set
            .lend(Lend::Detached, |vb| {
                vb.get(2, "b.bias")?;
                Ok(vb.get(3, "a.weight")?)
            })
            .unwrap();
        let forked = set.fork().unwrap();
        let new = Tensor::new(&[5f32, 6., 7.], &Device::Cpu).unwrap();
        set.get("a.weight").unwrap().set(&new).unwrap();
        assert_eq!(lent.to_vec1::<f32>().unwrap(), [5., 6., 7.]);
        assert_eq!(
            forked.get("a.weight").unwrap().to_vec1::<f32>().unwrap(),
            [1., 1., 1.]
        );
        forked.assign(&set).unwrap();
        assert_eq!(
            forked.get("a.weight").unwrap().to_vec1::<f32>().unwrap(),
            [5., 6., 7.]
        );
    }
}
