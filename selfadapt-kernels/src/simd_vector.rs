//! Kernels written in vectors: one source for every instruction set through pulp, chosen at run time.
//!
//! For loops that the compiler vectorises well by itself, [`crate::simd`] is the simpler tool.

use crate::simd;
use candle_core::Result;
use pulp::{MemMask, NullaryFnOnce, Scalar128b, Simd, f32x4};
use std::cell::Cell;

/// A vector instruction set that the kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// 16 lanes and 32 registers: AVX-512 F, BW, CD, DQ and VL.
    Avx512,
    /// 8 lanes and 16 registers: AVX2 with FMA.
    Avx2,
    /// 4 lanes and 32 registers: 64-bit ARM.
    Neon,
    /// 4 lanes in plain Rust, for every other processor; multiplication and addition round separately.
    Portable,
}

impl Level {
    /// All levels, the fastest first.
    pub const ALL: [Level; 4] = [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable];

    /// Whether this processor can run the level.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => pulp::x86::V4::is_available(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => pulp::x86::V3::is_available(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => pulp::aarch64::Neon::is_available(),
            Level::Portable => true,
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }

    /// The level that operations started on this thread use: the fastest available one within
    /// [`crate::simd::restrict`], unless [`with_level`] chose another.
    pub fn current() -> Level {
        let allowed = |level: &Level| match simd::level() {
            simd::Level::Avx512 => true,
            simd::Level::Avx2 => *level != Level::Avx512,
            simd::Level::Baseline => matches!(level, Level::Neon | Level::Portable),
        };
        let mut usable = Level::ALL.into_iter().filter(|level| level.is_available());
        FORCED
            .get()
            .or_else(|| usable.find(allowed))
            .unwrap_or(Level::Portable)
    }

    /// Number of `f32` lanes of one vector.
    pub const fn lanes(self) -> usize {
        match self {
            Level::Avx512 => 16,
            Level::Avx2 => 8,
            Level::Neon | Level::Portable => 4,
        }
    }
}

thread_local! {
    static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
}

/// Runs `work` with every kernel that it starts on this thread bound to `level`: for comparing the paths.
///
/// # Errors
/// When this processor does not have the level.
pub fn with_level<T>(level: Level, work: impl FnOnce() -> T) -> Result<T> {
    struct Restore(Option<Level>);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    if !level.is_available() {
        candle_core::bail!(
            "with_level: expected an instruction set of this processor, got {level:?}"
        )
    }
    let _restore = Restore(FORCED.replace(Some(level)));
    Ok(work())
}

/// The most lanes that any level has: the length of a [`Block`].
pub(crate) const MAX_LANES: usize = 16;

/// `F32_LANES` vectors side by side (the rest is unused), small enough for registers.
pub(crate) type Block<S> = [<S as Simd>::f32s; MAX_LANES];

/// Work that is compiled once for each level; `run` and all that it inlines use the level's instructions.
pub(crate) trait Kernel {
    type Output;
    fn run<S: Vector>(self, simd: S) -> Self::Output;
}

/// Runs a kernel at a level; a level that the processor lacks runs the portable form.
pub(crate) fn dispatch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => match pulp::x86::V4::try_new() {
            Some(simd) => simd.enter(kernel),
            None => Scalar128b.enter(kernel),
        },
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => match pulp::x86::V3::try_new() {
            Some(simd) => simd.enter(kernel),
            None => Scalar128b.enter(kernel),
        },
        #[cfg(target_arch = "aarch64")]
        Level::Neon => match pulp::aarch64::Neon::try_new() {
            Some(simd) => simd.enter(kernel),
            None => Scalar128b.enter(kernel),
        },
        _ => Scalar128b.enter(kernel),
    }
}

struct Call<S, K> {
    simd: S,
    kernel: K,
}

impl<S: Vector, K: Kernel> NullaryFnOnce for Call<S, K> {
    type Output = K::Output;

    #[inline(always)]
    fn call(self) -> K::Output {
        self.kernel.run(self.simd)
    }
}

/// What the kernels need of an instruction set beyond pulp's `Simd`.
pub(crate) trait Vector: Simd {
    /// Rows of the register tile of a matrix product with two vectors a row.
    const TILE_ROWS: usize;
    /// The same where both operands run along the summed axis.
    const OUTER_TILE_ROWS: usize;

    /// Calls a kernel as a function of its own that may use this instruction set.
    fn enter<K: Kernel>(self, kernel: K) -> K::Output;

    /// Transposes the square made of the first `F32_LANES` vectors.
    fn transpose(self, block: &mut Block<Self>);

    /// `a * b + c`, fused where the processor can.
    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.mul_add_f32s(a, b, c)
    }

    /// `c - a * b`, fused where the processor can.
    #[inline(always)]
    fn fnma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        self.negate_mul_add_f32s(a, b, c)
    }

    /// The vector at `from`, which need not be aligned.
    ///
    /// # Safety
    /// `F32_LANES` values from `from` on must be readable.
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::f32s {
        // SAFETY: the caller vouches for the range; any bits are a vector of f32.
        unsafe { from.cast::<Self::f32s>().read_unaligned() }
    }

    /// Writes a vector to `to`, which need not be aligned or initialised.
    ///
    /// # Safety
    /// `F32_LANES` values from `to` on must be writable.
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Self::f32s) {
        // SAFETY: the caller vouches for the range.
        unsafe { to.cast::<Self::f32s>().write_unaligned(value) }
    }

    /// The mask of the first `count` lanes.
    #[inline(always)]
    fn first(self, count: usize) -> MemMask<Self::m32s> {
        self.mask_between_m32s(0, count.min(Self::F32_LANES) as u32)
    }
}

#[cfg(target_arch = "x86_64")]
impl Vector for pulp::x86::V4 {
    const TILE_ROWS: usize = 14;
    const OUTER_TILE_ROWS: usize = 8;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.vectorize(Call { simd: self, kernel })
    }

    #[inline(always)]
    fn transpose(self, block: &mut Block<Self>) {
        crate::simd_transpose::avx512(self, block);
    }
}

#[cfg(target_arch = "x86_64")]
impl Vector for pulp::x86::V3 {
    const TILE_ROWS: usize = 6;
    const OUTER_TILE_ROWS: usize = 4;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.vectorize(Call { simd: self, kernel })
    }

    #[inline(always)]
    fn transpose(self, block: &mut Block<Self>) {
        crate::simd_transpose::avx2(self, block);
    }
}

#[cfg(target_arch = "aarch64")]
impl Vector for pulp::aarch64::Neon {
    const TILE_ROWS: usize = 14;
    const OUTER_TILE_ROWS: usize = 8;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        self.vectorize(Call { simd: self, kernel })
    }

    #[inline(always)]
    fn transpose(self, block: &mut Block<Self>) {
        crate::simd_transpose::lanes4(self, block);
    }
}

impl Vector for Scalar128b {
    const TILE_ROWS: usize = 6;
    const OUTER_TILE_ROWS: usize = 4;

    #[inline(always)]
    fn enter<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn transpose(self, block: &mut Block<Self>) {
        crate::simd_transpose::lanes4(self, block);
    }

    // pulp's fused form is a library call for each lane where the target has no FMA instruction, and its
    // loops over lanes do not become vector instructions; these do.
    #[inline(always)]
    fn fma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        f32x4(
            a.0 * b.0 + c.0,
            a.1 * b.1 + c.1,
            a.2 * b.2 + c.2,
            a.3 * b.3 + c.3,
        )
    }

    #[inline(always)]
    fn fnma(self, a: Self::f32s, b: Self::f32s, c: Self::f32s) -> Self::f32s {
        f32x4(
            c.0 - a.0 * b.0,
            c.1 - a.1 * b.1,
            c.2 - a.2 * b.2,
            c.3 - a.3 * b.3,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TransposeOnce;
    impl Kernel for TransposeOnce {
        type Output = ();
        fn run<S: Vector>(self, simd: S) {
            let lanes = S::F32_LANES;
            let mut block = [simd.splat_f32s(-1.0); MAX_LANES];
            for (row, vector) in block[..lanes].iter_mut().enumerate() {
                let values: Vec<f32> = (0..lanes).map(|x| (100 * row + x) as f32).collect();
                *vector = simd.partial_load_f32s(&values);
            }
            simd.transpose(&mut block);
            for (row, vector) in block[..lanes].iter().enumerate() {
                let mut values = vec![0.0; lanes];
                simd.partial_store_f32s(&mut values, *vector);
                let expected: Vec<f32> = (0..lanes).map(|x| (100 * x + row) as f32).collect();
                assert_eq!(values, expected, "row {row} of {simd:?}");
            }
        }
    }

    #[test]
    fn every_level_transposes_its_square() {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            dispatch(level, TransposeOnce);
        }
    }

    #[test]
    fn a_forced_level_ends_with_its_closure() {
        let before = Level::current();
        let inside = with_level(Level::Portable, Level::current).unwrap();
        assert_eq!((inside, Level::current()), (Level::Portable, before));
    }
}
