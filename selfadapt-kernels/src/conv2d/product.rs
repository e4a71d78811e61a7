//! The two register-tiled matrix products that both algorithms are made of.

use crate::simd_vector::{Kernel, Vector};

/// `out[r] = sum over s and k of a[r * a_row + s * a_segment + k] * b[s * depth + k]`, where rows of `b` and
/// `out` are `vectors` vectors wide: pixels times input channels by input channels times output channels.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub a: &'a [f32],
    pub a_row: usize,
    pub a_segment: usize,
    pub segments: usize,
    pub depth: usize,
    pub b: &'a [f32],
    pub rows: usize,
    /// Width of a row of `b` and of the result in vectors: 1 or 2.
    pub vectors: usize,
}

/// A [`Product`] and where it goes: row `r` to `out[r * out_row..]`.
pub(crate) struct ProductInto<'a> {
    pub product: Product<'a>,
    pub out: &'a mut [f32],
    pub out_row: usize,
}

impl Kernel for ProductInto<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        match self.product.vectors {
            1 => self.tiles::<S, 1>(simd),
            _ => self.tiles::<S, 2>(simd),
        }
    }
}

impl ProductInto<'_> {
    #[inline(always)]
    fn tiles<S: Vector, const N: usize>(self, simd: S) {
        let Product {
            rows,
            depth,
            segments,
            ..
        } = self.product;
        let wide = N * S::F32_LANES;
        if rows == 0 {
            return;
        }
        assert!(self.product.vectors == N);
        assert!((rows - 1) * self.out_row + wide <= self.out.len());
        if segments > 0 {
            let last = (rows - 1) * self.product.a_row + (segments - 1) * self.product.a_segment;
            assert!(last + depth <= self.product.a.len());
            assert!(segments * depth * wide <= self.product.b.len());
        }
        let mut row = 0;
        while row < rows {
            let left = (rows - row).min(S::TILE_ROWS);
            // SAFETY: the asserts above cover every row below `rows`, and a tile takes at most `left`.
            row += unsafe {
                let out = self.out.as_mut_ptr().add(row * self.out_row);
                let from = &self.product;
                // `const` keeps tiles that a level never uses from being compiled for it.
                if const { S::TILE_ROWS >= 14 } && left >= 14 {
                    tile::<S, 14, N>(simd, from, row, out, self.out_row)
                } else if const { S::TILE_ROWS >= 8 } && left >= 8 {
                    tile::<S, 8, N>(simd, from, row, out, self.out_row)
                } else if left >= 6 {
                    tile::<S, 6, N>(simd, from, row, out, self.out_row)
                } else if left >= 4 {
                    tile::<S, 4, N>(simd, from, row, out, self.out_row)
                } else if left >= 2 {
                    tile::<S, 2, N>(simd, from, row, out, self.out_row)
                } else {
                    tile::<S, 1, N>(simd, from, row, out, self.out_row)
                }
            };
        }
    }
}

/// Computes the rows `row..row + M` of a product and returns `M`.
///
/// # Safety
/// All that the product reads for these rows must be inside `a` and `b`, and `out` must have room for `M`
/// rows of `N` vectors, `out_row` apart.
#[inline(always)]
unsafe fn tile<S: Vector, const M: usize, const N: usize>(
    simd: S,
    product: &Product,
    row: usize,
    out: *mut f32,
    out_row: usize,
) -> usize {
    let mut sum = [[simd.splat_f32s(0.0); N]; M];
    let wide = N * S::F32_LANES;
    // SAFETY: the caller vouches for every address formed here.
    unsafe {
        for segment in 0..product.segments {
            let a = product
                .a
                .as_ptr()
                .add(row * product.a_row + segment * product.a_segment);
            let b = product.b.as_ptr().add(segment * product.depth * wide);
            for k in 0..product.depth {
                let mut weights = [simd.splat_f32s(0.0); N];
                for (n, weights) in weights.iter_mut().enumerate() {
                    *weights = simd.load(b.add(k * wide + n * S::F32_LANES));
                }
                for (m, sum) in sum.iter_mut().enumerate() {
                    let pixel = simd.splat_f32s(*a.add(m * product.a_row + k));
                    for n in 0..N {
                        sum[n] = simd.fma(pixel, weights[n], sum[n]);
                    }
                }
            }
        }
        for (m, sum) in sum.iter().enumerate() {
            for (n, value) in sum.iter().enumerate() {
                simd.store(out.add(m * out_row + n * S::F32_LANES), *value);
            }
        }
    }
    M
}

/// `out[i] += sum over s and p of a[s * a_segment + p * a_pixel + i] * b[s * b_segment + p * b_pixel ..]`:
/// input channels by output channels, summed over pixels.
pub(crate) struct OuterProduct<'a> {
    pub a: &'a [f32],
    pub a_pixel: usize,
    pub a_segment: usize,
    pub b: &'a [f32],
    pub b_pixel: usize,
    pub b_segment: usize,
    pub segments: usize,
    pub pixels: usize,
    /// Rows of the result (input channels).
    pub rows: usize,
    /// Width of a row of the result in vectors (output channels).
    pub vectors: usize,
    pub out: &'a mut [f32],
    pub out_row: usize,
}

impl Kernel for OuterProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Vector>(self, simd: S) {
        if self.rows == 0 || self.vectors == 0 || self.segments == 0 || self.pixels == 0 {
            return;
        }
        let wide = self.vectors * S::F32_LANES;
        let (segment, pixel) = (self.segments - 1, self.pixels - 1);
        assert!(segment * self.a_segment + pixel * self.a_pixel + self.rows <= self.a.len());
        assert!(segment * self.b_segment + pixel * self.b_pixel + wide <= self.b.len());
        assert!((self.rows - 1) * self.out_row + wide <= self.out.len());
        let mut row = 0;
        while row < self.rows {
            let left = (self.rows - row).min(S::OUTER_TILE_ROWS);
            let mut vector = 0;
            while vector < self.vectors {
                let column = vector * S::F32_LANES;
                let two = self.vectors - vector >= 2;
                // SAFETY: the asserts above cover all rows and columns of the result and what they read.
                unsafe {
                    let out = self.out.as_mut_ptr().add(row * self.out_row + column);
                    let eight = const { S::OUTER_TILE_ROWS >= 8 } && left >= 8;
                    match (left, two) {
                        (_, true) if eight => outer::<S, 8, 2>(simd, &self, row, column, out),
                        (_, false) if eight => outer::<S, 8, 1>(simd, &self, row, column, out),
                        (4.., true) => outer::<S, 4, 2>(simd, &self, row, column, out),
                        (4.., false) => outer::<S, 4, 1>(simd, &self, row, column, out),
                        (2.., true) => outer::<S, 2, 2>(simd, &self, row, column, out),
                        (2.., false) => outer::<S, 2, 1>(simd, &self, row, column, out),
                        (_, true) => outer::<S, 1, 2>(simd, &self, row, column, out),
                        (_, false) => outer::<S, 1, 1>(simd, &self, row, column, out),
                    }
                }
                vector += if two { 2 } else { 1 };
            }
            row += match left {
                8.. => 8,
                4.. => 4,
                2.. => 2,
                _ => 1,
            };
        }
    }
}

/// Adds the tile of `M` rows by `N` vectors at `(row, column)` to `out`.
///
/// # Safety
/// All that the tile reads must be inside `a` and `b`, and `out` must have `M` rows of `N` vectors,
/// `out_row` apart.
#[inline(always)]
unsafe fn outer<S: Vector, const M: usize, const N: usize>(
    simd: S,
    product: &OuterProduct,
    row: usize,
    column: usize,
    out: *mut f32,
) {
    let mut sum = [[simd.splat_f32s(0.0); N]; M];
    // SAFETY: the caller vouches for every address formed here.
    unsafe {
        for segment in 0..product.segments {
            let a = product.a.as_ptr().add(segment * product.a_segment + row);
            let b = product.b.as_ptr().add(segment * product.b_segment + column);
            for pixel in 0..product.pixels {
                let a = a.add(pixel * product.a_pixel);
                let b = b.add(pixel * product.b_pixel);
                let mut right = [simd.splat_f32s(0.0); N];
                for (n, right) in right.iter_mut().enumerate() {
                    *right = simd.load(b.add(n * S::F32_LANES));
                }
                for (m, sum) in sum.iter_mut().enumerate() {
                    let left = simd.splat_f32s(*a.add(m));
                    for n in 0..N {
                        sum[n] = simd.fma(left, right[n], sum[n]);
                    }
                }
            }
        }
        for (m, sum) in sum.iter().enumerate() {
            for (n, value) in sum.iter().enumerate() {
                let out = out.add(m * product.out_row + n * S::F32_LANES);
                simd.store(out, simd.add_f32s(simd.load(out), *value));
            }
        }
    }
}
