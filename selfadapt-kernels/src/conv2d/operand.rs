//! What a convolution reads and writes besides its weights, and what it does to them on the way.

use super::geometry::Planes;
use candle_core::Result;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A tensor `[B, C, H, W]` that a convolution reads, changed while it is packed: `relu(scale * x + shift)`.
///
/// The padding around it is zero after the change, as if the changed tensor had been stored and padded.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The values, contiguous `[B, C, H, W]`.
    pub values: &'a [f32],
    /// A factor and a term for each channel, such as a batch norm folded with its statistics.
    pub affine: Option<Affine<'a>>,
    /// Whether negative values become zero, after the affine.
    pub relu: bool,
}

/// `scale * x + shift`, channel by channel.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// `[C]`, or `[B, C]` where it differs from image to image.
    pub scale: &'a [f32],
    /// `[C]`, or `[B, C]` where it differs from image to image (a style that is added to an image).
    pub shift: &'a [f32],
}

impl<'a> Input<'a> {
    /// The values as they are.
    pub fn plain(values: &'a [f32]) -> Self {
        Self {
            values,
            affine: None,
            relu: false,
        }
    }

    pub(crate) fn check(&self, planes: Planes, what: &str) -> Result<()> {
        expect_len(self.values.len(), planes.len(), what, planes)?;
        if let Some(affine) = self.affine {
            for (name, values) in [("scale", affine.scale), ("shift", affine.shift)] {
                let images = planes.batch * planes.channels;
                if values.len() != planes.channels && values.len() != images {
                    candle_core::bail!(
                        "conv2d: expected {} or {images} values of {name} for {what} {planes:?}, got {}",
                        planes.channels,
                        values.len()
                    )
                }
            }
        }
        Ok(())
    }
}

impl Affine<'_> {
    /// The factors and the terms of the channels from `channel` on in one image.
    #[inline(always)]
    pub(crate) fn at(&self, planes: Planes, image: usize, channel: usize) -> (&[f32], &[f32]) {
        let from = |values| {
            let values: &[f32] = values;
            let of_image = if values.len() == planes.channels {
                0
            } else {
                image * planes.channels
            };
            &values[of_image + channel..]
        };
        (from(self.scale), from(self.shift))
    }
}

/// What is added to a convolution's result while it is stored.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// A term for each channel, `[C]`.
    pub bias: Option<&'a [f32]>,
    /// A tensor of the result's shape `[B, C, H, W]`.
    pub residual: Option<&'a [f32]>,
}

impl Epilogue<'_> {
    pub(crate) fn check(&self, planes: Planes) -> Result<()> {
        if let Some(bias) = self.bias {
            expect_len(bias.len(), planes.channels, "the bias of", planes)?;
        }
        if let Some(residual) = self.residual {
            expect_len(residual.len(), planes.len(), "the residual of", planes)?;
        }
        Ok(())
    }
}

/// Errs unless a slice has the length that its shape calls for.
pub(crate) fn expect_len(got: usize, expected: usize, what: &str, planes: Planes) -> Result<()> {
    if got != expected {
        candle_core::bail!("conv2d: expected {expected} values for {what} {planes:?}, got {got}")
    }
    Ok(())
}

/// A tensor being written by several tasks at once, each its own rows.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput<'a> {
    start: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only written through, by `write_at`, whose callers promise that no two tasks
// write the same element; f32 may be written from any thread.
unsafe impl Send for SharedOutput<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedOutput<'_> {}

impl<'a> SharedOutput<'a> {
    pub fn new(values: &'a mut [MaybeUninit<f32>]) -> Self {
        Self {
            start: values.as_mut_ptr().cast(),
            len: values.len(),
            lifetime: PhantomData,
        }
    }

    /// Where to write the `count` elements from `offset` on; panics when they are not all inside.
    ///
    /// # Safety
    /// No other task may write these elements while this one does.
    #[inline(always)]
    pub unsafe fn write_at(&self, offset: usize, count: usize) -> *mut f32 {
        assert!(offset <= self.len && count <= self.len - offset);
        // SAFETY: just checked to be inside the slice.
        unsafe { self.start.add(offset) }
    }
}

/// Views initialised memory as memory to be written.
pub(crate) fn as_uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    // SAFETY: the layouts are the same, and the kernels only ever write initialised f32 through the view.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), values.len()) }
}
