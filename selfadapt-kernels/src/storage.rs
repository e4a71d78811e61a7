//! Reads CPU tensors as slices and makes outputs without zeroing them first.

use std::mem::MaybeUninit;
use std::ops::Range;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

/// A place that a kernel writes exactly once: an element of a buffer, initialised or not.
pub trait Slot<T>: Send {
    /// Stores `value`.
    fn put(&mut self, value: T);
}

impl<T: WithDType> Slot<T> for T {
    #[inline(always)]
    fn put(&mut self, value: T) {
        *self = value;
    }
}

impl<T: Send> Slot<T> for MaybeUninit<T> {
    #[inline(always)]
    fn put(&mut self, value: T) {
        self.write(value);
    }
}

/// A vector of `len` elements written by `fill`, which spares a pass over fresh memory.
///
/// # Safety
/// `fill` must write every element, or not return.
pub(crate) unsafe fn filled<T: Copy>(
    len: usize,
    fill: impl FnOnce(&mut [MaybeUninit<T>]),
) -> Vec<T> {
    let mut out = Vec::with_capacity(len);
    fill(&mut out.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len` and the caller promises that `fill` wrote all of it.
    unsafe { out.set_len(len) };
    out
}

/// The elements of a contiguous CPU tensor inside a custom op.
///
/// # Errors
/// If the layout is not contiguous or the type is not `T`; `op` and `what` name the argument.
pub(crate) fn slice<'a, T: WithDType>(
    op: &str,
    what: &str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [T]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!(
            "{op}: {what} must be contiguous, got shape {:?} with strides {:?}; call contiguous() first",
            layout.shape().dims(),
            layout.stride()
        )
    };
    Ok(&storage.as_slice::<T>()?[start..end])
}

/// Runs `f` on the elements of a contiguous CPU tensor.
///
/// # Errors
/// As [`slice`], or if the tensor is on another device.
pub(crate) fn with_slice<T: WithDType, R>(
    op: &str,
    what: &str,
    tensor: &Tensor,
    f: impl FnOnce(&[T]) -> Result<R>,
) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(slice(op, what, cpu, layout)?),
        _ => bail!(
            "{op}: {what} must be on the CPU, got {:?}; there is no other implementation",
            tensor.device().location()
        ),
    }
}

/// Elements of one task where work has no natural pieces.
pub(crate) const CHUNK: usize = 1 << 15;

/// Checks that `tensor` has the shape `expected` and the type `dtype`.
pub(crate) fn check(
    op: &str,
    what: &str,
    tensor: &Tensor,
    expected: &[usize],
    dtype: DType,
) -> Result<()> {
    if tensor.dims() != expected || tensor.dtype() != dtype {
        bail!(
            "{op}: expected {what} of shape {expected:?} and type {dtype:?}, got {:?} and {:?}",
            tensor.dims(),
            tensor.dtype()
        )
    }
    Ok(())
}

/// The four axes of an image batch of type f32 or f64.
pub(crate) fn image_dims(op: &str, x: &Tensor) -> Result<(usize, usize, usize, usize)> {
    if !matches!(x.dtype(), DType::F32 | DType::F64) {
        bail!("{op}: expected f32 or f64, got {:?}", x.dtype())
    }
    match *x.dims() {
        [b, c, h, w] => Ok((b, c, h, w)),
        ref other => bail!("{op}: expected an input of shape [B, C, H, W], got {other:?}"),
    }
}

/// The error of a type that no kernel covers.
pub(crate) fn unsupported<T>(op: &str, dtype: DType) -> Result<T> {
    bail!("{op}: expected f32 or f64, got {dtype:?}")
}

/// How many planes of `pixels` elements one task takes, so that small planes do not drown in scheduling.
pub(crate) fn planes_at_once(pixels: usize) -> usize {
    (16_384 / pixels.max(1)).max(1)
}

/// The sum of `term` over runs of `chunk` pixels of all images of `[B, channels, pixels]`, in parallel and always in one
/// order. A term gets the image, its run of pixels, and of each channel that run of `buffer`, to be written, where one is
/// given.
///
/// # Panics
/// If `pixels` is 0.
pub(crate) fn sum_over_runs<O: Send>(
    buffer: Option<&mut [O]>,
    [images, channels, pixels]: [usize; 3],
    chunk: usize,
    term: impl Fn(usize, Range<usize>, Option<&mut [&mut [O]]>) -> f64 + Sync,
) -> f64 {
    let runs = pixels.div_ceil(chunk);
    let mut written: Vec<Option<Vec<&mut [O]>>> = match buffer {
        Some(buffer) => by_pixels(buffer, channels, pixels, chunk)
            .into_iter()
            .map(Some)
            .collect(),
        None => (0..images * runs).map(|_| None).collect(),
    };
    let terms: Vec<f64> = written
        .par_iter_mut()
        .enumerate()
        .map(|(task, written)| {
            let first = task % runs * chunk;
            let run = first..pixels.min(first + chunk);
            term(task / runs, run, written.as_deref_mut())
        })
        .collect();
    terms.iter().sum()
}

/// Cuts a buffer `[B, channels, pixels]` into runs of `chunk` pixels: one item an image and run, in that order, each
/// with its slice of every channel, so that tasks that need all channels of a pixel may write side by side.
pub(crate) fn by_pixels<O>(
    buffer: &mut [O],
    channels: usize,
    pixels: usize,
    chunk: usize,
) -> Vec<Vec<&mut [O]>> {
    let mut tasks = Vec::new();
    if buffer.is_empty() {
        return tasks;
    }
    for image in buffer.chunks_mut(channels * pixels) {
        let mut planes: Vec<_> = image
            .chunks_mut(pixels)
            .map(|plane| plane.chunks_mut(chunk))
            .collect();
        for _ in 0..pixels.div_ceil(chunk) {
            tasks.push(planes.iter_mut().filter_map(Iterator::next).collect());
        }
    }
    tasks
}
