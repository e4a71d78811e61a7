//! Products of tiles: Intel AMX where the processor has it, plain loops of the same order elsewhere (for tests).

use std::marker::PhantomData;
use std::sync::OnceLock;

use super::{DEPTH, SIDE};
use crate::simd_vector::Level;

/// Whether this processor has tiles of bf16 and the system lets this process use them.
pub(crate) fn available() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(amx::permitted)
}

/// Who multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Amx,
    Plain,
}

impl Kind {
    /// The processor's tiles, unless a level below AVX-512 is forced.
    pub fn at(level: Level) -> Self {
        match level == Level::Avx512 && available() {
            true => Self::Amx,
            false => Self::Plain,
        }
    }

    /// Makes this thread's tiles ready, until the result is dropped.
    pub fn open(self) -> Tiles {
        if self == Self::Amx {
            amx::configure();
        }
        Tiles(self, PhantomData)
    }
}

/// Tiles of this thread, ready for use. The pointer keeps them from being sent to another, whose tiles are others.
pub(super) struct Tiles(Kind, PhantomData<*const ()>);

/// `out[r] = sum over s and k of a[r * a_row + s * a_segment + k] * b[s * depth + k]` for one or two tiles of pixels by one or
/// two tiles of target channels.
pub(super) struct TileProduct<'a> {
    pub a: &'a [u16],
    pub a_row: usize,
    pub a_segment: usize,
    pub segments: usize,
    /// A multiple of 32.
    pub depth: usize,
    /// As [`super::Filters`] orders them.
    pub b: &'a [u16],
    /// Two tiles of pixels.
    pub tall: bool,
    /// Two tiles of target channels.
    pub wide: bool,
    pub out: &'a mut [f32],
    pub out_row: usize,
}

impl Tiles {
    /// Computes a product.
    pub fn multiply(&self, product: TileProduct) {
        let (rows, width) = (product.rows(), product.width());
        let TileProduct {
            segments, depth, ..
        } = product;
        assert!(segments > 0 && depth > 0 && depth.is_multiple_of(DEPTH));
        let last = (rows - 1) * product.a_row + (segments - 1) * product.a_segment;
        assert!(last + depth <= product.a.len());
        assert!(segments * depth * width <= product.b.len());
        assert!((rows - 1) * product.out_row + width <= product.out.len());
        match self.0 {
            // SAFETY: tiles are configured while `self` lives, on the thread that it cannot leave, and all that is read
            // and written was asserted to be there.
            Kind::Amx => unsafe { amx::multiply(product) },
            Kind::Plain => plain(product),
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        if self.0 == Kind::Amx {
            amx::release();
        }
    }
}

impl TileProduct<'_> {
    fn rows(&self) -> usize {
        SIDE * (1 + usize::from(self.tall))
    }

    fn width(&self) -> usize {
        SIDE * (1 + usize::from(self.wide))
    }
}

fn plain(product: TileProduct) {
    let wide = |half: u16| f32::from_bits(u32::from(half) << 16);
    let tiles = product.width() / SIDE;
    for row in 0..product.rows() {
        for column in 0..product.width() {
            let mut sum = 0.;
            for segment in 0..product.segments {
                let a = &product.a[row * product.a_row + segment * product.a_segment..];
                for (k, &a) in a[..product.depth].iter().enumerate() {
                    let chunk = (segment * product.depth + k) / DEPTH;
                    let tile = chunk * tiles + column / SIDE;
                    let pair = tile * DEPTH / 2 + k % DEPTH / 2;
                    let b = product.b[(pair * SIDE + column % SIDE) * 2 + k % 2];
                    sum += wide(a) * wide(b);
                }
            }
            product.out[row * product.out_row + column] = sum;
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    use super::{DEPTH, SIDE, TileProduct};

    /// What the processor says of itself, what the system saves of it, and the system's leave to use it.
    pub fn permitted() -> bool {
        const SAVED: u64 = 1 << 17 | 1 << 18;
        if __cpuid(0).eax < 7 || __cpuid(1).ecx & 1 << 27 == 0 {
            return false;
        }
        let features = __cpuid_count(7, 0).edx;
        if features & 1 << 22 == 0 || features & 1 << 24 == 0 {
            return false;
        }
        let (low, high): (u32, u32);
        // SAFETY: bit 27 above says that the system has made this instruction, which only reads, usable.
        unsafe {
            asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack));
        }
        if (u64::from(high) << 32 | u64::from(low)) & SAVED != SAVED {
            return false;
        }
        ask()
    }

    /// Linux saves tiles only for processes that have asked: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA).
    fn ask() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const REQUEST: i64 = 0x1023;
        const TILE_DATA: i64 = 18;
        let answer: i64;
        // SAFETY: the call takes two numbers, touches no memory of ours, and clobbers what is named.
        unsafe {
            asm!("syscall", inlateout("rax") ARCH_PRCTL => answer, in("rdi") REQUEST, in("rsi") TILE_DATA,
                out("rcx") _, out("r11") _, options(nostack));
        }
        answer == 0
    }

    /// The shapes of all eight tiles: 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes: [u16; 16],
        rows: [u8; 16],
    }

    static SHAPES: Shapes = {
        let (mut bytes, mut rows) = ([0; 16], [0; 16]);
        let mut tile = 0;
        while tile < 8 {
            bytes[tile] = 64;
            rows[tile] = SIDE as u8;
            tile += 1;
        }
        Shapes {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes,
            rows,
        }
    };

    pub fn configure() {
        // SAFETY: only where `permitted`; reads the 64 bytes of `SHAPES`. Compiled code never uses tiles.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const SHAPES, options(nostack, readonly)) };
    }

    pub fn release() {
        // SAFETY: only where `permitted`; nothing holds anything in tiles any more.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }

    /// Values between two rows of a tile of weights, in bytes.
    const PAIRS: usize = 2 * 2 * SIDE;
    /// Values of a tile of weights.
    const TILE: usize = DEPTH * SIDE;

    /// # Safety
    /// Tiles must be configured on this thread, and `product` must lie inside of its slices.
    pub unsafe fn multiply(product: TileProduct) {
        // SAFETY: as the caller vouches for.
        unsafe {
            match (product.tall, product.wide) {
                (true, true) => tiles::<true, true>(product),
                (true, false) => tiles::<true, false>(product),
                (false, true) => tiles::<false, true>(product),
                (false, false) => tiles::<false, false>(product),
            }
        }
    }

    /// Sums in tiles 0 (first pixels, first channels), 1 (first, second), 2 (second, first) and 3; pixels in 4 and 5, weights in 6 and 7.
    ///
    /// # Safety
    /// As [`multiply`], and of that shape.
    unsafe fn tiles<const TALL: bool, const WIDE: bool>(product: TileProduct) {
        let chunks = product.depth / DEPTH;
        let (a_bytes, out_bytes) = (2 * product.a_row, 4 * product.out_row);
        // SAFETY: the caller vouches for every address: rows of `a` are `a_row` values apart and DEPTH long, tiles of `b` TILE
        // values, rows of `out` `out_row` apart. All asm is volatile, so it keeps its order, and may read and write memory.
        unsafe {
            asm!("tilezero tmm0", options(nostack, nomem));
            if WIDE {
                asm!("tilezero tmm1", options(nostack, nomem));
            }
            if TALL {
                asm!("tilezero tmm2", options(nostack, nomem));
            }
            if TALL && WIDE {
                asm!("tilezero tmm3", options(nostack, nomem));
            }
            let mut b = product.b.as_ptr();
            for segment in 0..product.segments {
                let mut a = product.a.as_ptr().add(segment * product.a_segment);
                for _ in 0..chunks {
                    asm!("tileloadd tmm4, [{a} + {row}*1]", "tileloadd tmm6, [{b} + {pairs}*1]", "tdpbf16ps tmm0, tmm4, tmm6",
                        a = in(reg) a, row = in(reg) a_bytes, b = in(reg) b, pairs = in(reg) PAIRS, options(nostack, readonly));
                    if WIDE {
                        asm!("tileloadd tmm7, [{b} + {pairs}*1]", "tdpbf16ps tmm1, tmm4, tmm7",
                            b = in(reg) b.add(TILE), pairs = in(reg) PAIRS, options(nostack, readonly));
                    }
                    if TALL {
                        asm!("tileloadd tmm5, [{a} + {row}*1]", "tdpbf16ps tmm2, tmm5, tmm6",
                            a = in(reg) a.add(SIDE * product.a_row), row = in(reg) a_bytes, options(nostack, readonly));
                    }
                    if TALL && WIDE {
                        asm!("tdpbf16ps tmm3, tmm5, tmm7", options(nostack, nomem));
                    }
                    a = a.add(DEPTH);
                    b = b.add(if WIDE { 2 * TILE } else { TILE });
                }
            }
            let out = product.out.as_mut_ptr();
            asm!("tilestored [{out} + {row}*1], tmm0", out = in(reg) out, row = in(reg) out_bytes, options(nostack));
            if WIDE {
                asm!("tilestored [{out} + {row}*1], tmm1", out = in(reg) out.add(SIDE), row = in(reg) out_bytes, options(nostack));
            }
            let below = out.add(if TALL { SIDE * product.out_row } else { 0 });
            if TALL {
                asm!("tilestored [{out} + {row}*1], tmm2", out = in(reg) below, row = in(reg) out_bytes, options(nostack));
            }
            if TALL && WIDE {
                asm!("tilestored [{out} + {row}*1], tmm3", out = in(reg) below.add(SIDE), row = in(reg) out_bytes, options(nostack));
            }
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod amx {
    use super::TileProduct;

    pub fn permitted() -> bool {
        false
    }

    pub fn configure() {}

    pub fn release() {}

    /// # Safety
    /// None is needed: the plain loops.
    pub unsafe fn multiply(product: TileProduct) {
        super::plain(product);
    }
}
