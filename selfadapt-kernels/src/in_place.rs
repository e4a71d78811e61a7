//! Writes into the storage of a CPU tensor, so that every tensor that shares it sees the change.

use std::cell::Cell;
use std::marker::PhantomData;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, WithDType, bail};

/// A float type whose CPU storage can be written.
pub(crate) trait Elements: WithDType {
    /// The elements, if the storage is of this type.
    fn of(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

impl Elements for f32 {
    fn of(storage: &mut CpuStorage) -> Option<&mut [f32]> {
        match storage {
            CpuStorage::F32(values) => Some(values),
            _ => None,
        }
    }
}

impl Elements for f64 {
    fn of(storage: &mut CpuStorage) -> Option<&mut [f64]> {
        match storage {
            CpuStorage::F64(values) => Some(values),
            _ => None,
        }
    }
}

/// Whether two tensors share their storage.
pub(crate) fn same_storage(a: &Tensor, b: &Tensor) -> bool {
    let address = |t: &Tensor| std::ptr::from_ref(&*t.storage_and_layout().0).addr();
    address(a) == address(b)
}

/// Runs `f` on the elements of a contiguous CPU tensor, which are changed for all tensors that share them. The
/// storage stays locked meanwhile: `f` must not touch a tensor of the same storage.
///
/// # Errors
/// If the tensor is not contiguous, not of type `T` or on another device, or as `f`.
pub(crate) fn with_slice_mut<T: Elements, R>(
    op: &'static str,
    what: &str,
    tensor: &Tensor,
    f: impl FnOnce(&mut [T]) -> Result<R>,
) -> Result<R> {
    let once = Once {
        op,
        what,
        f: Cell::new(Some(f)),
        result: Cell::new(None),
        element: PhantomData,
    };
    tensor.inplace_op1(&once)?;
    match once.result.into_inner() {
        Some(result) => Ok(result),
        None => bail!(
            "{op}: no implementation on {:?}",
            tensor.device().location()
        ),
    }
}

/// A closure that candle runs once, and what it returned.
struct Once<'a, T, F, R> {
    op: &'static str,
    what: &'a str,
    f: Cell<Option<F>>,
    result: Cell<Option<R>>,
    element: PhantomData<T>,
}

impl<T: Elements, R, F: FnOnce(&mut [T]) -> Result<R>> InplaceOp1 for Once<'_, T, F, R> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (op, what) = (self.op, self.what);
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!(
                "{op}: {what} must be contiguous, got strides {:?}",
                layout.stride()
            )
        };
        let dtype = storage.dtype();
        let (Some(values), Some(f)) = (T::of(storage), self.f.take()) else {
            bail!(
                "{op}: expected {what} of type {:?}, got {dtype:?}",
                T::DTYPE
            )
        };
        self.result.set(Some(f(&mut values[start..end])?));
        Ok(())
    }
}
