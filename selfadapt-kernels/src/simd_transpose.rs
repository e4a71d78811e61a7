//! Transposition of a square of vectors in registers, for each instruction set.

use crate::simd_vector::{Block, Vector};
use pulp::Simd;

/// 16 x 16: two rounds within 128-bit quarters, then two rounds of whole quarters.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn avx512(simd: pulp::x86::V4, block: &mut Block<pulp::x86::V4>) {
    use pulp::cast;
    use std::arch::x86_64::{__m512, __m512d};
    let avx = simd.avx512f;
    let mut row: [__m512; 16] = cast(*block);
    let mut half = row;
    for i in 0..8 {
        half[2 * i] = avx._mm512_unpacklo_ps(row[2 * i], row[2 * i + 1]);
        half[2 * i + 1] = avx._mm512_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    for i in 0..4 {
        let quad: [__m512d; 4] = [
            cast(half[4 * i]),
            cast(half[4 * i + 1]),
            cast(half[4 * i + 2]),
            cast(half[4 * i + 3]),
        ];
        row[4 * i] = cast(avx._mm512_unpacklo_pd(quad[0], quad[2]));
        row[4 * i + 1] = cast(avx._mm512_unpackhi_pd(quad[0], quad[2]));
        row[4 * i + 2] = cast(avx._mm512_unpacklo_pd(quad[1], quad[3]));
        row[4 * i + 3] = cast(avx._mm512_unpackhi_pd(quad[1], quad[3]));
    }
    for i in 0..4 {
        half[i] = avx._mm512_shuffle_f32x4::<0x88>(row[i], row[i + 4]);
        half[i + 4] = avx._mm512_shuffle_f32x4::<0xdd>(row[i], row[i + 4]);
        half[i + 8] = avx._mm512_shuffle_f32x4::<0x88>(row[i + 8], row[i + 12]);
        half[i + 12] = avx._mm512_shuffle_f32x4::<0xdd>(row[i + 8], row[i + 12]);
    }
    for i in 0..4 {
        row[i] = avx._mm512_shuffle_f32x4::<0x88>(half[i], half[i + 8]);
        row[i + 4] = avx._mm512_shuffle_f32x4::<0x88>(half[i + 4], half[i + 12]);
        row[i + 8] = avx._mm512_shuffle_f32x4::<0xdd>(half[i], half[i + 8]);
        row[i + 12] = avx._mm512_shuffle_f32x4::<0xdd>(half[i + 4], half[i + 12]);
    }
    *block = cast(row);
}

/// 8 x 8: two rounds within 128-bit halves, then one of whole halves.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn avx2(simd: pulp::x86::V3, block: &mut Block<pulp::x86::V3>) {
    use pulp::cast;
    use std::arch::x86_64::{__m256, __m256d};
    let avx = simd.avx;
    let mut row = [cast::<_, __m256>(block[0]); 8];
    for (to, from) in row.iter_mut().zip(block.iter()) {
        *to = cast(*from);
    }
    let mut half = row;
    for i in 0..4 {
        half[2 * i] = avx._mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
        half[2 * i + 1] = avx._mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
    }
    for i in 0..2 {
        let quad: [__m256d; 4] = [
            cast(half[4 * i]),
            cast(half[4 * i + 1]),
            cast(half[4 * i + 2]),
            cast(half[4 * i + 3]),
        ];
        row[4 * i] = cast(avx._mm256_unpacklo_pd(quad[0], quad[2]));
        row[4 * i + 1] = cast(avx._mm256_unpackhi_pd(quad[0], quad[2]));
        row[4 * i + 2] = cast(avx._mm256_unpacklo_pd(quad[1], quad[3]));
        row[4 * i + 3] = cast(avx._mm256_unpackhi_pd(quad[1], quad[3]));
    }
    for i in 0..4 {
        block[i] = cast(avx._mm256_permute2f128_ps::<0x20>(row[i], row[i + 4]));
        block[i + 4] = cast(avx._mm256_permute2f128_ps::<0x31>(row[i], row[i + 4]));
    }
}

/// 4 x 4 through an array, which the compiler turns into its target's shuffles.
#[inline(always)]
pub(crate) fn lanes4<S: Vector>(_: S, block: &mut Block<S>) {
    const { assert!(<S as Simd>::F32_LANES == 4) };
    let rows: [[f32; 4]; 4] = std::array::from_fn(|i| pulp::bytemuck::cast(block[i]));
    for (i, vector) in block.iter_mut().take(4).enumerate() {
        *vector = pulp::bytemuck::cast([rows[0][i], rows[1][i], rows[2][i], rows[3][i]]);
    }
}
