//! Blends on CPU slices, one plane at a time.

use candle_core::{Result, bail};
use rayon::prelude::*;

use crate::conv2d::Term;
use crate::max_pool::{Window, add_backward_plane};
use crate::scratch;
use crate::simd::dispatched;
use crate::storage::planes_at_once;

/// `sum_k scale_k[c] x_k + shift[b, c]` over maps `[B, C, H, W]`.
#[derive(Clone, Copy, Debug)]
pub struct Blend<'a> {
    /// The maps and their factors.
    pub terms: &'a [Term<'a>],
    /// `[B, C]`, or empty for none.
    pub shift: &'a [f32],
}

/// The size of maps.
struct Shape {
    planes: usize,
    channels: usize,
    pixels: usize,
}

impl Shape {
    fn new([batch, channels, height, width]: [usize; 4]) -> Self {
        Self {
            planes: batch * channels,
            channels,
            pixels: height * width,
        }
    }

    fn len(&self) -> usize {
        self.planes * self.pixels
    }
}

impl Blend<'_> {
    fn check(&self, what: &str, shape: &Shape) -> Result<()> {
        let (len, channels) = (shape.len(), shape.channels);
        for term in self.terms {
            if term.values.len() != len || term.scale.len() != channels {
                bail!(
                    "{what}: expected terms of {len} values and {channels} factors, got {} and {}",
                    term.values.len(),
                    term.scale.len()
                )
            }
        }
        if !self.shift.is_empty() && self.shift.len() != shape.planes {
            bail!(
                "{what}: expected {} shifts, got {}",
                shape.planes,
                self.shift.len()
            )
        }
        Ok(())
    }

    /// Adds one plane of the blend to `own` times `out`.
    fn add_plane(&self, plane: usize, channels: usize, own: f32, out: &mut [f32]) {
        let (channel, pixels) = (plane % channels, out.len());
        let shift = self.shift.get(plane).copied().unwrap_or(0.0);
        let of = |term: &Term| term.scale[channel];
        let from = plane * pixels;
        match self.terms {
            [] => add0(out, own, shift),
            [a] => add1(out, own, shift, of(a), &a.values[from..from + pixels]),
            [a, b] => add2(
                out,
                own,
                shift,
                of(a),
                &a.values[from..from + pixels],
                of(b),
                &b.values[from..from + pixels],
            ),
            [a, b, rest @ ..] => {
                add2(
                    out,
                    own,
                    shift,
                    of(a),
                    &a.values[from..from + pixels],
                    of(b),
                    &b.values[from..from + pixels],
                );
                for term in rest {
                    add1(out, 1.0, 0.0, of(term), &term.values[from..from + pixels]);
                }
            }
        }
    }
}

/// Replaces `out` `[B, C, H, W]` by `own[c]` times itself plus a blend; `own` of `None` is 1.
///
/// # Errors
/// If a length does not fit the shape.
pub fn blend(shape: [usize; 4], own: Option<&[f32]>, terms: Blend, out: &mut [f32]) -> Result<()> {
    let shape = Shape::new(shape);
    terms.check("blend", &shape)?;
    check_own("blend", own, &shape, out.len())?;
    out.par_chunks_mut(shape.pixels.max(1))
        .with_min_len(planes_at_once(shape.pixels))
        .enumerate()
        .for_each(|(plane, out)| {
            let own = own.map_or(1.0, |own| own[plane % shape.channels]);
            terms.add_plane(plane, shape.channels, own, out);
        });
    Ok(())
}

/// Blends `out` in place like [`blend`], then adds the gradient of a 2 x 2 max pooling of `x` whose output's gradient
/// is `pooled`, a blend of maps of half the sides.
///
/// # Errors
/// If a length does not fit the shape, or a side is odd.
pub fn blend_through_max_pool(
    shape: [usize; 4],
    own: Option<&[f32]>,
    terms: Blend,
    x: &[f32],
    pooled: Blend,
    out: &mut [f32],
) -> Result<()> {
    const NAME: &str = "blend_through_max_pool";
    let [batch, channels, height, width] = shape;
    if height % 2 + width % 2 != 0 {
        bail!("{NAME}: expected even sides, got {height} x {width}")
    }
    let half = Shape::new([batch, channels, height / 2, width / 2]);
    let shape = Shape::new(shape);
    terms.check(NAME, &shape)?;
    pooled.check(NAME, &half)?;
    check_own(NAME, own, &shape, out.len())?;
    if x.len() != shape.len() {
        bail!(
            "{NAME}: expected {} values of x, got {}",
            shape.len(),
            x.len()
        )
    }
    let window = Window {
        height,
        width,
        kernel: 2,
        stride: 2,
    };
    out.par_chunks_mut(shape.pixels.max(1))
        .zip(x.par_chunks(shape.pixels.max(1)))
        .with_min_len(planes_at_once(shape.pixels))
        .enumerate()
        .for_each(|(plane, (out, x))| {
            let own = own.map_or(1.0, |own| own[plane % channels]);
            terms.add_plane(plane, channels, own, out);
            let mut gradient = scratch::take(half.pixels);
            pooled.add_plane_new(plane, channels, &mut gradient);
            add_backward_plane(x, &gradient, window, out);
        });
    Ok(())
}

/// Writes the gradient of a nearest upsampling by 2: each pixel of `out` `[B, C, H, W]` becomes the sum of the blend's
/// 2 x 2 pixels, the blend being of maps `[B, C, 2 H, 2 W]`, plus `own`, a blend of maps of `out`'s own shape.
///
/// # Errors
/// If a length does not fit the shape.
pub fn blend_through_nearest_2x(
    shape: [usize; 4],
    doubled: Blend,
    own: Blend,
    out: &mut [f32],
) -> Result<()> {
    const NAME: &str = "blend_through_nearest_2x";
    let [batch, channels, height, width] = shape;
    let double = Shape::new([batch, channels, 2 * height, 2 * width]);
    let shape = Shape::new(shape);
    doubled.check(NAME, &double)?;
    own.check(NAME, &shape)?;
    check_own(NAME, None, &shape, out.len())?;
    out.par_chunks_mut(shape.pixels.max(1))
        .with_min_len(planes_at_once(double.pixels))
        .enumerate()
        .for_each(|(plane, out)| {
            own.add_plane_new(plane, channels, out);
            let mut gradient = scratch::take(double.pixels);
            doubled.add_plane_new(plane, channels, &mut gradient);
            add_squares(&gradient, width, out);
        });
    Ok(())
}

impl Blend<'_> {
    /// Writes one plane of the blend, whatever `out` held (it may be NaN).
    fn add_plane_new(&self, plane: usize, channels: usize, out: &mut [f32]) {
        out.fill(0.0);
        self.add_plane(plane, channels, 1.0, out);
    }
}

fn check_own(what: &str, own: Option<&[f32]>, shape: &Shape, out: usize) -> Result<()> {
    if out != shape.len() {
        bail!(
            "{what}: expected an output of {} values, got {out}",
            shape.len()
        )
    }
    match own {
        Some(own) if own.len() != shape.channels => bail!(
            "{what}: expected {} factors of the output, got {}",
            shape.channels,
            own.len()
        ),
        _ => Ok(()),
    }
}

dispatched! {
    fn add0(out: &mut [f32], own: f32, shift: f32) {
        for out in out {
            *out = *out * own + shift;
        }
    }
}

dispatched! {
    fn add1(out: &mut [f32], own: f32, shift: f32, scale: f32, values: &[f32]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out = *out * own + (value * scale + shift);
        }
    }
}

dispatched! {
    fn add2(out: &mut [f32], own: f32, shift: f32, first: f32, a: &[f32], second: f32, b: &[f32]) {
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = *out * own + (a * first + (b * second + shift));
        }
    }
}

dispatched! {
    /// Adds the four pixels of each square of `from`, twice as wide and high.
    fn add_squares(from: &[f32], width: usize, out: &mut [f32]) {
        for (from, out) in from.chunks_exact(4 * width).zip(out.chunks_exact_mut(width)) {
            let (top, bottom) = from.split_at(2 * width);
            for ((top, bottom), out) in top.chunks_exact(2).zip(bottom.chunks_exact(2)).zip(out) {
                *out += (top[0] + top[1]) + (bottom[0] + bottom[1]);
            }
        }
    }
}
