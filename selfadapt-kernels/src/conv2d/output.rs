//! A tensor that several tasks write at once, each its own rows.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A tensor being written by several tasks at once, each its own rows.
#[derive(Clone, Copy)]
pub(crate) struct SharedOutput<'a> {
    start: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only written through, at places from `write_at`, whose callers promise that no
// two tasks write the same element; f32 may be written from any thread.
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

    /// Where to write among the `count` elements from `offset` on; panics when they are not all inside.
    ///
    /// # Safety
    /// Elements that are written through the pointer must not be written by another task meanwhile.
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
