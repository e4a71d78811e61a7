//! The one-dimensional transforms of F(4, 3), applied along both axes to a tile in registers.

use crate::simd_vector::Vector;

/// Inputs of a tile along one axis, and transformed values.
pub(super) const SIDE: usize = 6;
/// Outputs of a tile along one axis.
pub(super) const STEP: usize = 4;
/// Products of a tile: the matrix products of a layer.
pub(super) const POINTS: usize = SIDE * SIDE;

// Here and wherever vectors pass through, loops stand in place of closures (`array::from_fn`, `map`): a closure
// is a function that the compiler need not inline, and if it does not, it lacks the instruction set.

/// `B^T d`: the input transform of six values.
#[inline(always)]
pub(super) fn input<S: Vector>(simd: S, d: [S::f32s; SIDE]) -> [S::f32s; SIDE] {
    let (two, four, five) = (
        simd.splat_f32s(2.0),
        simd.splat_f32s(4.0),
        simd.splat_f32s(5.0),
    );
    let even = simd.fnma(four, d[2], d[4]);
    let odd = simd.fnma(four, d[1], d[3]);
    let near = simd.sub_f32s(d[4], d[2]);
    let far = simd.mul_f32s(two, simd.sub_f32s(d[3], d[1]));
    [
        simd.fnma(five, d[2], simd.fma(four, d[0], d[4])),
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(near, far),
        simd.sub_f32s(near, far),
        simd.fnma(five, d[3], simd.fma(four, d[1], d[5])),
    ]
}

/// `A^T m`: the output transform of six values.
#[inline(always)]
pub(super) fn output<S: Vector>(simd: S, m: [S::f32s; SIDE]) -> [S::f32s; STEP] {
    let (two, four, eight) = (
        simd.splat_f32s(2.0),
        simd.splat_f32s(4.0),
        simd.splat_f32s(8.0),
    );
    let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (sum2, difference2) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(simd.add_f32s(m[0], sum), sum2),
        simd.fma(two, difference2, difference),
        simd.fma(four, sum2, sum),
        simd.add_f32s(simd.fma(eight, difference2, difference), m[5]),
    ]
}

/// `A y`: the transpose of [`output`], for the gradient by the weight.
#[inline(always)]
pub(super) fn gradient<S: Vector>(simd: S, y: [S::f32s; STEP]) -> [S::f32s; SIDE] {
    let (two, four, eight) = (
        simd.splat_f32s(2.0),
        simd.splat_f32s(4.0),
        simd.splat_f32s(8.0),
    );
    let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let even2 = simd.fma(four, y[2], y[0]);
    let odd2 = simd.fma(eight, y[3], simd.mul_f32s(two, y[1]));
    [
        y[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even2, odd2),
        simd.sub_f32s(even2, odd2),
        y[3],
    ]
}

/// `G g`: the filter transform of three values.
#[inline(always)]
pub(super) fn filter<S: Vector>(simd: S, g: [S::f32s; 3]) -> [S::f32s; SIDE] {
    let (quarter, sixth) = (simd.splat_f32s(1.0 / 4.0), simd.splat_f32s(1.0 / 6.0));
    let (twelfth, twenty_fourth) = (simd.splat_f32s(1.0 / 12.0), simd.splat_f32s(1.0 / 24.0));
    let outer = simd.mul_f32s(simd.splat_f32s(-1.0 / 6.0), simd.add_f32s(g[0], g[2]));
    let outer2 = simd.fma(twenty_fourth, g[0], simd.mul_f32s(sixth, g[2]));
    [
        simd.mul_f32s(quarter, g[0]),
        simd.fnma(sixth, g[1], outer),
        simd.fma(sixth, g[1], outer),
        simd.fma(twelfth, g[1], outer2),
        simd.fnma(twelfth, g[1], outer2),
        g[2],
    ]
}

/// `G^T u`: the transpose of [`filter`], for the gradient by the weight.
#[inline(always)]
pub(super) fn filter_gradient<S: Vector>(simd: S, u: [S::f32s; SIDE]) -> [S::f32s; 3] {
    let (quarter, sixth) = (simd.splat_f32s(1.0 / 4.0), simd.splat_f32s(1.0 / 6.0));
    let (twelfth, twenty_fourth) = (simd.splat_f32s(1.0 / 12.0), simd.splat_f32s(1.0 / 24.0));
    let (sum, difference) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[2], u[1]));
    let (sum2, difference2) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
    let outer = simd.fma(twenty_fourth, sum2, simd.mul_f32s(quarter, u[0]));
    [
        simd.fnma(sixth, sum, outer),
        simd.fma(sixth, difference, simd.mul_f32s(twelfth, difference2)),
        simd.fma(sixth, simd.sub_f32s(sum2, sum), u[5]),
    ]
}

/// Value `at` of each of several transformed columns: a row across them.
#[inline(always)]
pub(super) fn across<V: Copy, const N: usize, const M: usize>(
    columns: &[[V; M]; N],
    at: usize,
) -> [V; N] {
    let mut row = [columns[0][at]; N];
    for (value, column) in row.iter_mut().zip(columns) {
        *value = column[at];
    }
    row
}

/// Loads `N` vectors, `pitch` values apart.
///
/// # Safety
/// A vector from `from + i * pitch` on must be readable for every `i < N`.
#[inline(always)]
pub(super) unsafe fn load_column<S: Vector, const N: usize>(
    simd: S,
    from: *const f32,
    pitch: usize,
) -> [S::f32s; N] {
    let mut column = [simd.splat_f32s(0.0); N];
    for (i, value) in column.iter_mut().enumerate() {
        // SAFETY: the caller vouches for vector `i`.
        *value = unsafe { simd.load(from.add(i * pitch)) };
    }
    column
}
