//! Blends on a GPU, on arrays of a machine.

use candle_core::{Result, bail};

use crate::conv2d::cuda::Term;
use crate::cuda::{Array, Launch, Program, blocks_for, count};

const NAME: &str = "blend";

/// Most maps of a blend.
const MOST: usize = 4;

/// Its kernels.
pub const PROGRAM: Program = Program {
    name: "blend.cu",
    source: include_str!("blend.cu"),
    kernels: &[
        "blend",
        "blend_through_nearest_2x",
        "blend_through_max_pool",
    ],
};

/// `sum_k scale_k[c] x_k + shift[b, c]` over maps `[B, C, H, W]`, of at most four of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blend<'a> {
    /// The maps and their factors.
    pub terms: &'a [Term<'a>],
    /// `[B, C]`, or none.
    pub shift: Option<&'a Array<f32>>,
}

impl Blend<'_> {
    fn check(&self, [batch, channels, height, width]: [usize; 4]) -> Result<()> {
        if self.terms.len() > MOST {
            bail!(
                "{NAME}: expected at most {MOST} maps, got {}",
                self.terms.len()
            )
        }
        for term in self.terms {
            let len = batch * channels * height * width;
            term.values.expect(NAME, "a map", len)?;
            term.scale.expect(NAME, "a map's factors", channels)?;
        }
        match self.shift {
            Some(shift) => shift.expect(NAME, "the shifts", batch * channels),
            None => Ok(()),
        }
    }

    /// Passes it in the order of `TERMS` in blend.cu.
    fn pass<'l>(&self, launch: Launch<'l>) -> Launch<'l> {
        let terms = (0..MOST).map(|k| self.terms.get(k));
        let launch = terms.fold(launch, |launch, term| {
            launch
                .maybe(term.map(|term| term.values))
                .maybe(term.map(|term| term.scale))
        });
        launch.maybe(self.shift)
    }
}

/// Numbers of maps of a shape, where the output and its factors fit it.
fn check(shape: [usize; 4], own: Option<&Array<f32>>, out: &Array<f32>) -> Result<u32> {
    out.expect(NAME, "the output", shape.iter().product())?;
    if let Some(own) = own {
        own.expect(NAME, "the output's factors", shape[1])?;
    }
    count(NAME, out.len())
}

/// Replaces `out` `[B, C, H, W]` by `own[c]` times itself plus a blend; `own` of `None` is 1.
///
/// # Errors
/// If a length does not fit the shape, there are more than four maps, or the device fails.
pub fn blend(
    shape: [usize; 4],
    own: Option<&Array<f32>>,
    terms: Blend,
    out: &mut Array<f32>,
) -> Result<()> {
    let n = check(shape, own, out)?;
    terms.check(shape)?;
    let machine = out.machine().clone();
    let launch = terms.pass(Launch::new(&machine, &PROGRAM, "blend"));
    let launch = launch
        .maybe(own)
        .u32(n)
        .u32(shape[1] as u32)
        .u32((shape[2] * shape[3]) as u32)
        .out(out);
    // SAFETY: the arguments are the kernel's; maps and output have n numbers of the shape, factors one a channel, shifts
    // one a plane; a thread reads of the output what it alone writes.
    unsafe { launch.run(blocks_for(n)) }
}

/// Writes the gradient of a nearest upsampling by 2: each pixel of the result `[B, C, H, W]` is the sum of the blend's
/// 2 x 2 pixels, the blend being of maps `[B, C, 2 H, 2 W]`.
///
/// # Errors
/// As [`blend`].
pub fn blend_through_nearest_2x(
    [batch, channels, height, width]: [usize; 4],
    doubled: Blend,
    out: &mut Array<f32>,
) -> Result<()> {
    let n = check([batch, channels, height, width], None, out)?;
    doubled.check([batch, channels, 2 * height, 2 * width])?;
    count(NAME, 4 * out.len())?;
    let machine = out.machine().clone();
    let launch = Launch::new(&machine, &PROGRAM, "blend_through_nearest_2x");
    let launch = doubled
        .pass(launch)
        .u32(n)
        .u32(channels as u32)
        .u32(height as u32)
        .u32(width as u32)
        .out(out);
    // SAFETY: the arguments are the kernel's; maps have four numbers for each of the output's n.
    unsafe { launch.run(blocks_for(n)) }
}

/// Blends `out` in place like [`blend`], then adds the gradient of a 2 x 2 max pooling of `x` whose output's gradient is
/// `pooled`, a blend of maps of half the sides.
///
/// # Errors
/// As [`blend`], and if a side is odd.
pub fn blend_through_max_pool(
    shape: [usize; 4],
    own: Option<&Array<f32>>,
    terms: Blend,
    x: &Array<f32>,
    pooled: Blend,
    out: &mut Array<f32>,
) -> Result<()> {
    let [batch, channels, height, width] = shape;
    if height % 2 + width % 2 != 0 {
        bail!("{NAME}: expected even sides, got {height} x {width}")
    }
    let n = check(shape, own, out)?;
    terms.check(shape)?;
    pooled.check([batch, channels, height / 2, width / 2])?;
    x.expect(NAME, "the pooled map", out.len())?;
    let machine = out.machine().clone();
    let launch = Launch::new(&machine, &PROGRAM, "blend_through_max_pool");
    let launch = pooled
        .pass(terms.pass(launch))
        .maybe(own)
        .array(x)
        .u32(n)
        .u32(channels as u32)
        .u32(height as u32)
        .u32(width as u32)
        .out(out);
    // SAFETY: the arguments are the kernel's; as in `blend`; sides are even, so that every window is whole, and maps of
    // `pooled` have a number a window.
    unsafe { launch.run(blocks_for(n)) }
}
